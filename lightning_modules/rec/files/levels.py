"""The two `Draw`s of coding: a sender's, which makes messages of samples of posteriors, and a receiver's.

Both give z on the grid of 2^-GRID_BITS, of the same bits: messages and priors determine it, and priors come from the
integer twins of the generative networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.coding.ans import AnsStack
from lightning_modules.errors import CodingError, damaged
from lightning_modules.rec.files.message_code import Richness, pop_message
from lightning_modules.rec.files.settings import KL_UNIT, Settings
from lightning_modules.rec.models.hierarchy import Hierarchy, Prior, analytic_kl, sampled_kl
from lightning_modules.rec.samplers import blocks
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian
from lightning_modules.rec.samplers.blocks import Layout
from lightning_modules.rec.samplers.index_coder import Coder, Encoded
from lightning_modules.records import ImageSize

GRID_BITS = 16
LARGEST = float((1 << 31) - 1)
"""Of a z, in 2^-GRID_BITS."""


class Cut(NamedTuple):
    """How a level is cut into blocks. expected: variables of each. first: number of its first block in the file."""

    layout: Layout
    expected: tuple[float, ...]
    first: int


def cuts(expected_kl: Sequence[Tensor], sizes: Sequence[ImageSize], settings: Settings, first: int = 0) -> list[Cut]:
    """expected_kl: of each level (C,), per channel, in 1 / `blocks.KL_UNIT` nat at each position.

    sizes: of each level; of several pictures that are coded as one, as if they lay below each other. first: number of
    the first block.
    """
    found: list[Cut] = []
    for channels, size in zip(expected_kl, sizes, strict=True):
        layout, expected = _cut(
            tuple(channels.tolist()),
            math.prod(size),
            settings.block_kl,
            settings.block_size,
            settings.kl_per_variable,
            settings.seed,
        )
        found.append(Cut(layout, expected, first))
        first += layout.num_blocks
    return found


@lru_cache(maxsize=64)
def _cut(
    channels: tuple[int, ...], positions: int, block_kl: int, block_size: int, kl_per_variable: int, seed: int
) -> tuple[Layout, tuple[float, ...]]:
    expected = np.repeat(np.array(channels, dtype=np.int64), positions)
    layout = blocks.blocks_by_kl(expected, block_kl, block_size, seed)
    held = np.add.reduceat(expected[layout.order.numpy()], layout.starts[:-1])
    variables = held / blocks.KL_UNIT * (KL_UNIT / kl_per_variable)
    return layout, tuple(variables.tolist())


class Sender:
    """Levels of a picture, or of B equally large ones as one, coded as they are drawn. features: what inference says.

    encoded: what each level so far has become, z (B, C, h, w). kl, log_ratio: of each level, (B,) nats of each picture.
    """

    def __init__(
        self, networks: Hierarchy, features: Sequence[Tensor], coder: Coder, level_cuts: Sequence[Cut]
    ) -> None:
        self._networks, self._features, self._coder, self._cuts = networks, features, coder, level_cuts
        self.encoded: list[Encoded] = []
        self.kl: list[Tensor] = []
        self.log_ratio: list[Tensor] = []

    def __call__(self, level: int, prior: Prior) -> Tensor:
        cut = self._cuts[level]
        found = self._networks.posterior(level, self._features[level], prior)
        q, p = Gaussian(found.mean.double(), found.std.double()), _portable(self._networks, prior)
        try:
            encoded = self._coder.encode(_by_channel(q), _by_channel(p), cut.layout, cut.first)
        except ValueError as error:
            raise CodingError(f"{error}; the model does not know such pictures, train it longer or on others") from None
        z = encoded.z.transpose(0, 1)
        self.encoded.append(replace(encoded, z=z))
        self.kl.append(analytic_kl(q, p).flatten(1).sum(1))
        self.log_ratio.append(sampled_kl(q, p, z).flatten(1).sum(1))
        return on_grid(z)


class Receiver:
    """The same levels, read off a stack. stack: with what is left on it. drawn: z so far, (B, C, h, w)."""

    def __init__(self, networks: Hierarchy, stack: AnsStack, settings: Settings, level_cuts: Sequence[Cut]) -> None:
        self._networks, self.stack, self._cuts = networks, stack, level_cuts
        self._coder, self._code = settings.receiver(), settings.index_code()
        self._richness = Richness()
        self.drawn: list[Tensor] = []

    def __call__(self, level: int, prior: Prior) -> Tensor:
        cut = self._cuts[level]
        self.stack, message = pop_message(self.stack, cut.expected, self._richness, self._coder.schedule, self._code)
        try:
            z = self._coder.decode(message, _by_channel(_portable(self._networks, prior)), cut.layout, cut.first)
        except ValueError as error:
            raise damaged(str(error)) from None
        self.drawn.append(on_grid(z.transpose(0, 1)))
        return self.drawn[-1]

    def of_picture(self, number: int) -> Receiver:
        """What a receiver of that picture alone has when all levels are drawn; the stack is this one's."""
        alone = copy(self)
        alone.drawn = [z[number : number + 1] for z in self.drawn]
        return alone


def on_grid(z: Tensor) -> Tensor:
    return (z * 2.0**GRID_BITS).round_().clamp_(-LARGEST, LARGEST) * 2.0**-GRID_BITS


def integers_of(z: Tensor) -> NDArray[np.int32]:
    """(C, h, w) of one picture's z on the grid (1, C, h, w)."""
    return (z[0] * 2.0**GRID_BITS).to("cpu", torch.int32).numpy()


def value_of(integers: NDArray[np.integer]) -> Tensor:
    """The inverse, (C, h, w)."""
    return torch.from_numpy(integers.astype(np.float64)) * 2.0**-GRID_BITS


def _by_channel(law: Gaussian) -> Gaussian:
    """(B, C, h, w) -> (C, B, h, w): the order of dimensions that a level is cut in, whatever the number of pictures."""
    return Gaussian(law.mean.transpose(0, 1), law.std.transpose(0, 1))


def _portable(networks: Hierarchy, prior: Prior) -> Gaussian:
    return Gaussian(prior.mean, networks.scale_map.portable(prior.spread))
