"""The order of pops and pushes that puts one picture onto a stack with initial bits, and takes it off again.

sender     pop z under q(z | y_hat);  push y_hat under P(y | z);  push z under p(z)
receiver   pop z under p(z);  pop y_hat under P(y | z);  push z under q(z | y_hat)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.coding import bits_back
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.container import content_crc
from lightning_modules.coding.leaky import GaussianRows, Grid, Int32s, SharedRows, bits, shared_rows
from lightning_modules.coding.shifted_tables import FRACTIONS, split_means
from lightning_modules.coding.tables import total_bits
from lightning_modules.hyperprior.coding_parameters import MEAN_BITS
from lightning_modules.hyperprior.networks import HYPER_STRIDE, LATENT_STRIDE
from lightning_modules.image_padding import ceil_div
from lightning_modules.records import ImageSize, Integers
from lightning_modules.sga.bits_back.coding_state import BitsBackState, y_tables
from lightning_modules.sga.bits_back.posterior import Gaussians, Search
from lightning_modules.sga.bits_back.section_header import LARGEST, Mode, SectionHeader

CHECK_BITS = 16
"""q's means and logarithms of variances are checksummed in units of 2^-16."""

REACH = 6.0
"""Deviations of q on either side of its mean that the grid of z holds."""


class Written(NamedTuple):
    """The record of one coded picture. bits: under the tables, by latent, `back` negative. q: z was drawn from it.

    low: words below the state when least was on the stack. net: by how many bits the stack has grown.
    """

    settings: SectionHeader
    integers: Integers
    bits: dict[str, float]
    q: Gaussians
    low: int
    net: float


def write(stack: AnsStack, derived: BitsBackState, y: Int32s, search: Search, fineness: int, mode: Mode) -> Written:
    """Push one picture, y (M, h, w) integers, onto a stack. Raises `TooFewBits`, with the stack in disorder."""
    start = stack.bits
    q = derived.posterior(y, search)
    settings = SectionHeader(mode, fineness, _extent(q, fineness), search)
    under_q, prior = _rows_of(q, settings.grid), _prior(derived, settings.grid, q.mean.shape)
    entries = bits_back.pop(stack, under_q)
    low = stack.num_words
    index, base = _tables_of_y(derived, entries, settings.grid, q.mean.shape, y.shape[1:])
    stack.push((y - base).ravel(), index.ravel(), y_tables())
    bits_back.push(stack, entries, prior)
    cost = {
        "y": total_bits(y_tables(), (y - base).ravel(), index.ravel()),
        "z": bits(entries, prior),
        "back": -bits(entries, under_q),
    }
    return Written(settings, _integers(entries, settings.grid, y, q), cost, q, low, stack.bits - start)


def read(
    stack: AnsStack, derived: BitsBackState, settings: SectionHeader, channels: tuple[int, int], size: ImageSize
) -> Integers:
    """Invert `write` and leave the stack as it was before. channels: N and M. Raises `DamagedFile`."""
    z_shape = (channels[0], *ceil_div(size, HYPER_STRIDE))
    y_shape = (channels[1], *ceil_div(size, LATENT_STRIDE))
    stack.expect_bits(math.prod(y_shape) * float(y_tables().least_bits.min()))
    prior = _prior(derived, settings.grid, z_shape)
    entries = bits_back.take(stack, prior)
    index, base = _tables_of_y(derived, entries, settings.grid, z_shape, y_shape[1:])
    y = (stack.pop(index.ravel(), y_tables()).reshape(y_shape) + base).astype(np.int32)
    q = derived.posterior(y, settings.search)
    bits_back.push(stack, entries, _rows_of(q, settings.grid))
    return _integers(entries, settings.grid, y, q)


def crc_of(integers: Integers) -> int:
    """Return the CRC of all that sender and receiver must agree on."""
    return content_crc(*(integers[name] for name in ("z", "y", "mean", "log_variance")))


def _extent(q: Gaussians, fineness: int) -> int:
    """Find the least power of two that holds what q may draw, and a step of the grid."""
    farthest = float((np.abs(q.mean) + REACH * q.deviation).max())
    return min(LARGEST, max(0, -fineness, math.ceil(math.log2(farthest))))


def _rows_of(q: Gaussians, grid: Grid) -> GaussianRows:
    return GaussianRows(grid, q.mean.ravel(), q.deviation.ravel())


def _prior(derived: BitsBackState, grid: Grid, z_shape: tuple[int, ...]) -> SharedRows:
    channels = np.repeat(np.arange(z_shape[0]), math.prod(z_shape[1:]))
    return shared_rows(grid, derived.posterior.density.cdf, channels)


def _tables_of_y(
    derived: BitsBackState, entries: Int32s, grid: Grid, z_shape: tuple[int, ...], size: tuple[int, ...]
) -> tuple[Int32s, Int32s]:
    """Look up table number and integer base of each y, (M, *size), given the entries of z."""
    unit = 2.0 ** int(derived.parameters.network.fractions[0])
    z = (entries.reshape(z_shape) - grid.half) * grid.step
    on_inputs: NDArray[np.float64] = np.rint(z * unit) / unit
    scale_index, mean = derived.parameters(torch.from_numpy(on_inputs[None]), (size[0], size[1]))
    base, fraction = split_means(mean[0].numpy(), MEAN_BITS)
    return scale_index[0].numpy().astype(np.int32) * FRACTIONS + fraction, base


def _integers(entries: Int32s, grid: Grid, y: Int32s, q: Gaussians) -> Integers:
    fixed = [np.rint(values * 2.0**CHECK_BITS).astype(np.int32) for values in q]
    z = (entries.reshape(q.mean.shape) - grid.half).astype(np.int32)
    return {"z": z, "y": y, "mean": fixed[0], "log_variance": fixed[1]}
