"""Bits-back coding of a lossless model: samples drawn by decoding bits that are on the stack already.

    sender     level by level: pop z under q;  push x under p(x|z);  levels from the last: push z under p
    receiver   level by level: pop z under p;  pop x;  levels from the last: push z under q: the stack as it was before

Both compute inference, too, in integers, since the receiver has to undo the sender's draws. A sample lies on a grid
that its prior makes: 2^bits cells of equal prior mass to a dimension. Under the prior a cell's number is `bits` uniform
bits; under a posterior it is so many decisions, whose probabilities come from portable arithmetic. What stands for a
cell is the quantile in its middle. (HiLLoC, Townsend et al. 2020, section 3.2, discretises so.) Posteriors are in units
of their priors, float64. Legend: N dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.bits_back import TooFewBits
from lightning_modules.exact.numpy_functions import normal_cdf, normal_quantiles
from lightning_modules.rec.files import binary_decisions
from lightning_modules.rec.files.binary_decisions import LEAST_MASS, MASS_BITS, Int64s
from lightning_modules.rec.files.levels import on_grid
from lightning_modules.rec.models.hierarchy import Network, Prior
from lightning_modules.rec.models.resnet_vae import ResNetVAE
from lightning_modules.records import ImageSize

Float64s = NDArray[np.float64]

BEYOND = 40.0
"""An edge farther out than any mass."""


class PosteriorCells(NamedTuple):
    """The masses of cells under posteriors. mean, deviation: (N,), in units of the priors."""

    bits: int
    mean: Float64s
    deviation: Float64s

    def below(self, cell: Int64s) -> Int64s:
        """Return the mass of the cells below each, of 2^MASS_BITS."""
        whole = (1 << MASS_BITS) - (LEAST_MASS << self.bits)
        share = normal_cdf((edges(self.bits)[cell] - self.mean) / self.deviation)
        inner = np.floor(whole * share).astype(np.int64)
        inner = np.where(cell == 0, 0, np.where(cell == 1 << self.bits, whole, inner))
        return inner + LEAST_MASS * cell


@cache
def middles(bits: int) -> Float64s:
    """Return the quantiles (2^bits,) in the middles of the cells."""
    return normal_quantiles(1 << bits)


@cache
def edges(bits: int) -> Float64s:
    """Return the quantiles (2^bits + 1,) of k / 2^bits: those between are middles of coarser grids."""
    found = np.full((1 << bits) + 1, BEYOND)
    found[0] = -BEYOND
    for coarse in range(bits):
        step = 1 << (bits - coarse)
        found[step // 2 :: step] = normal_quantiles(1 << coarse)
    return found


class KnownLevel(NamedTuple):
    """A level that is known. cells: (N,). prior: what it was drawn with."""

    cells: Int64s
    prior: Prior


class GridModel:
    """A model whose samples lie on the grid. integer_networks: of its networks. bits: 2^bits cells to a dimension."""

    def __init__(self, networks: ResNetVAE, integer_networks: Mapping[str, Network], bits: int) -> None:
        self._networks, self._integer_networks, self.bits = networks, integer_networks, bits

    def features(self, padded: Tensor) -> list[Tensor]:
        """Return what inference makes of (1, 3, H, W), values 0 ... 255, sides multiples of the stride."""
        return self._networks.infer_with(self._integer_networks, (padded.double() + 0.5) / 256.0 - 0.5)

    def posterior(self, level: int, feature: Tensor, prior: Prior) -> PosteriorCells:
        """Return the masses of a level's cells."""
        mean, spread = self._networks.posterior_with(self._integer_networks, level, feature, prior)
        portable = self._networks.scale_map.portable
        deviation = portable(prior.spread)
        parts = ((mean - prior.mean) / deviation, portable(spread) / deviation)
        return PosteriorCells(self.bits, *(part.cpu().numpy().ravel() for part in parts))

    def sample(self, cells: Int64s, prior: Prior) -> Tensor:
        """Return z, on the grid that all files share."""
        u = torch.from_numpy(middles(self.bits)[cells]).to(prior.mean).view(prior.mean.shape)
        scaled = u * self._networks.scale_map.portable(prior.spread)
        return on_grid(scaled + prior.mean)

    def generate(
        self, size: ImageSize, device: torch.device, draw: Callable[[int, Prior], Int64s]
    ) -> tuple[Tensor, list[KnownLevel]]:
        """Draw all levels as cells; return what `ResNetVAE.generate` gives, and the levels."""
        levels: list[KnownLevel] = []

        def as_sample(level: int, prior: Prior) -> Tensor:
            levels.append(KnownLevel(draw(level, prior), prior))
            return self.sample(levels[-1].cells, prior)

        like = torch.zeros(1, 1, dtype=torch.float64, device=device)
        return self._networks.generate(self._integer_networks, like, size, as_sample), levels


class PictureBits(NamedTuple):
    """The cost of a picture in bits, `back` negative. low: words below the state when least was on the stack."""

    bits: dict[str, float]
    low: int


def write(
    stack: AnsStack, model: GridModel, padded: Tensor, push_pixels: Callable[[Tensor], dict[str, float]]
) -> PictureBits:
    """Put one picture on the stack.

    Args:
        stack: Holds the initial bits.
        model: The networks and the grid.
        padded: (1, 3, H, W) as `GridModel.features` takes it.
        push_pixels: Puts pixels on the stack, given what they follow from; returns their cost by name.

    Raises:
        TooFewBits: The draws take more bits than there are.
    """
    features, taken = model.features(padded), [0.0]

    def draw(level: int, prior: Prior) -> Int64s:
        cells = model.posterior(level, features[level], prior)
        before = stack.bits
        found = binary_decisions.pop(stack, cells.mean.size, model.bits, cells.below)
        if stack.is_exhausted():
            raise TooFewBits("too few initial bits for the latents of this picture")
        taken[0] += before - stack.bits
        return found

    size = (padded.shape[-2], padded.shape[-1])
    state, levels = model.generate(size, padded.device, draw)
    low = stack.num_words
    pixels = push_pixels(state)
    for level in reversed(levels):
        stack.push_uniform(level.cells, model.bits)
    latents = float(model.bits * sum(level.cells.size for level in levels))
    return PictureBits({"latents": latents, "back": -taken[0]} | pixels, low)


def read(
    stack: AnsStack, model: GridModel, size: ImageSize, device: torch.device, pop_pixels: Callable[[Tensor], Tensor]
) -> None:
    """Take one picture off the stack, which is then as it was before `write`.

    pop_pixels: takes the pixels off and gives the padded picture, as `write` takes it.
    """

    def draw(level: int, prior: Prior) -> Int64s:
        del level
        return stack.pop_uniform(prior.mean.numel(), model.bits)

    state, levels = model.generate(size, device, draw)
    features = model.features(pop_pixels(state))
    for level in reversed(range(len(levels))):
        cells = model.posterior(level, features[level], levels[level].prior)
        binary_decisions.put(stack, list(binary_decisions.decided(levels[level].cells, model.bits, cells.below)))
