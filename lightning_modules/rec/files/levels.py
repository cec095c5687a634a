"""Draw the levels of a hierarchy: a sender makes messages of samples of posteriors, a receiver reads them.

Both give z on the grid of 2^-GRID_BITS, of the same bits: messages and priors determine it, and priors come from the
integer networks of the generative networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.coding.ans import AnsStack
from lightning_modules.errors import CodingError, damaged
from lightning_modules.rec.files.message_code import Richness, pop_message
from lightning_modules.rec.files.settings import VARIABLE_KL_UNIT, SampleSettings
from lightning_modules.rec.models.hierarchy import Hierarchy, Prior, analytic_kl, sampled_kl
from lightning_modules.rec.samplers import blocks
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian
from lightning_modules.rec.samplers.blocks import Layout
from lightning_modules.rec.samplers.index_coder import IndexCoder, Message
from lightning_modules.records import ImageSize

GRID_BITS = 16
LARGEST = float((1 << 31) - 1)
"""Largest z, in 2^-GRID_BITS."""


class LevelBlocks(NamedTuple):
    """The blocks of a level. expected: variables of each block. first: number of the first block in the file."""

    layout: Layout
    expected: tuple[float, ...]
    first: int


def level_blocks(
    expected_kl: Sequence[Tensor], sizes: Sequence[ImageSize], settings: SampleSettings, first: int = 0
) -> list[LevelBlocks]:
    """Cut levels into blocks.

    Args:
        expected_kl: Of each level (C,), per channel, in 1 / `blocks.EXPECTED_KL_UNIT` nat at each position.
        sizes: Of each level; of several pictures that are coded as one, as if they lay below each other.
        settings: How large blocks are.
        first: Number of the first block.
    """
    found: list[LevelBlocks] = []
    for channels, size in zip(expected_kl, sizes, strict=True):
        layout, expected = _layout(
            tuple(channels.tolist()),
            math.prod(size),
            settings.block_kl,
            settings.block_size,
            settings.kl_per_variable,
            settings.seed,
        )
        found.append(LevelBlocks(layout, expected, first))
        first += layout.num_blocks
    return found


@lru_cache(maxsize=64)
def _layout(
    channels: tuple[int, ...], positions: int, block_kl: int, block_size: int, kl_per_variable: int, seed: int
) -> tuple[Layout, tuple[float, ...]]:
    expected = np.repeat(np.array(channels, dtype=np.int64), positions)
    layout = blocks.blocks_by_kl(expected, block_kl, block_size, seed)
    held = np.add.reduceat(expected[layout.order.numpy()], layout.starts[:-1])
    variables = held / blocks.EXPECTED_KL_UNIT * (VARIABLE_KL_UNIT / kl_per_variable)
    return layout, tuple(variables.tolist())


class Sender:
    """Codes the levels of a picture, or of B equally large ones as one, as they are drawn. features: from inference.

    Of each level so far: messages; drawn, z (B, C, h, w); kl and log_ratio, (B,) nats of each picture.
    """

    def __init__(
        self, networks: Hierarchy, features: Sequence[Tensor], coder: IndexCoder, layouts: Sequence[LevelBlocks]
    ) -> None:
        self._networks, self._features, self._coder, self._layouts = networks, features, coder, layouts
        self.messages: list[Message] = []
        self.drawn: list[Tensor] = []
        self.kl: list[Tensor] = []
        self.log_ratio: list[Tensor] = []

    def __call__(self, level: int, prior: Prior) -> Tensor:
        blocks_of_level = self._layouts[level]
        found = self._networks.posterior(level, self._features[level], prior)
        q, p = Gaussian(found.mean.double(), found.std.double()), _portable(self._networks, prior)
        try:
            coded = self._coder.encode(_by_channel(q), _by_channel(p), blocks_of_level.layout, blocks_of_level.first)
        except ValueError as error:
            raise CodingError(f"{error}; the model does not know such pictures, train it longer or on others") from None
        z = coded.z.transpose(0, 1)
        self.messages.append(coded.message)
        self.kl.append(analytic_kl(q, p).flatten(1).sum(1))
        self.log_ratio.append(sampled_kl(q, p, z).flatten(1).sum(1))
        self.drawn.append(on_grid(z))
        return self.drawn[-1]


class Receiver:
    """Reads the same levels off a stack. stack: with what is left on it. drawn: z so far, (B, C, h, w)."""

    def __init__(
        self, networks: Hierarchy, stack: AnsStack, settings: SampleSettings, layouts: Sequence[LevelBlocks]
    ) -> None:
        self._networks, self.stack, self._layouts = networks, stack, layouts
        self._coder, self._code = settings.receiver(), settings.index_code()
        self._richness = Richness()
        self.drawn: list[Tensor] = []

    def __call__(self, level: int, prior: Prior) -> Tensor:
        blocks_of_level = self._layouts[level]
        self.stack, message = pop_message(
            self.stack, blocks_of_level.expected, self._richness, self._coder.schedule, self._code
        )
        try:
            z = self._coder.decode(
                message, _by_channel(_portable(self._networks, prior)), blocks_of_level.layout, blocks_of_level.first
            )
        except ValueError as error:
            raise damaged(str(error)) from None
        self.drawn.append(on_grid(z.transpose(0, 1)))
        return self.drawn[-1]


def on_grid(z: Tensor) -> Tensor:
    """Round z to multiples of 2^-GRID_BITS."""
    return (z * 2.0**GRID_BITS).round_().clamp_(-LARGEST, LARGEST) * 2.0**-GRID_BITS


def integers_of(z: Tensor) -> NDArray[np.int32]:
    """Return one picture's z on the grid (1, C, h, w) in multiples of 2^-GRID_BITS, (C, h, w)."""
    return (z[0] * 2.0**GRID_BITS).to("cpu", torch.int32).numpy()


def value_of(integers: NDArray[np.integer]) -> Tensor:
    """Return z for its integers (C, h, w)."""
    return torch.from_numpy(integers.astype(np.float64)) * 2.0**-GRID_BITS


def _by_channel(law: Gaussian) -> Gaussian:
    """Bring (B, C, h, w) into the order that a level is cut in for any number of pictures, (C, B, h, w)."""
    return Gaussian(law.mean.transpose(0, 1), law.std.transpose(0, 1))


def _portable(networks: Hierarchy, prior: Prior) -> Gaussian:
    return Gaussian(prior.mean, networks.scale_map.portable(prior.spread))
