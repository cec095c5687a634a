"""How a latent is cut into blocks that are coded on their own: a function of what sender and receiver both know.

Dimensions of a latent are numbered as in the flattened tensor. A permutation mixes them, so that the blocks of one
layout are alike; it depends on integers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.coding.shared_randomness import halves, philox4x32, signed_64

LAYOUT_TAG = 0x4C61796F
"""Second word of the counters that a permutation is drawn with."""
EXPECTED_KL_UNIT = 1 << 20
"""Expected KL is given in integer multiples of 1 / EXPECTED_KL_UNIT nat."""


@dataclass(frozen=True)
class Layout:
    """Block k holds the dimensions `order[starts[k] : starts[k + 1]]`.

    order: (M,) int64, a permutation. starts: ascending from 0 to M.
    """

    order: Tensor
    starts: tuple[int, ...]

    @property
    def num_blocks(self) -> int:
        return len(self.starts) - 1

    def split(self, values: Tensor) -> list[Tensor]:
        """Split a tensor of M numbers into its blocks."""
        mixed = values.flatten()[self.order.to(values.device)]
        return [mixed[start:stop] for start, stop in pairwise(self.starts)]

    def join(self, blocks: list[Tensor]) -> Tensor:
        """Join blocks as they were before `split`: (M,)."""
        mixed = torch.cat(blocks)
        values = torch.empty_like(mixed)
        values[self.order.to(mixed.device)] = mixed
        return values


def equal_blocks(num_dimensions: int, block_size: int, seed: int) -> Layout:
    """Cut a seeded permutation into runs of `block_size`, the last one shorter, as the paper does."""
    starts = (*range(0, num_dimensions, block_size), num_dimensions) if num_dimensions else (0,)
    return Layout(torch.from_numpy(permutation(num_dimensions, seed)), starts)


def blocks_by_kl(expected_kl: NDArray[np.int64], kl_per_block: float, block_size: int, seed: int) -> Layout:
    """Cut blocks that are expected to hold `kl_per_block` nats each, and have at most `block_size` dimensions.

    expected_kl: (M,) integers >= 0 in 1 / EXPECTED_KL_UNIT nat, stored with a model. Dimensions are grouped by the
    power of two of their expectation, so that dead ones fill large blocks of their own, and mixed in a group.
    """
    order = permutation(len(expected_kl), seed)
    groups = np.frexp(expected_kl[order].astype(np.float64))[1]
    order = order[np.argsort(groups, kind="stable")]
    goal = round(kl_per_block * EXPECTED_KL_UNIT)
    held = np.cumsum(expected_kl[order])
    starts, start, before = [], 0, 0
    while start < len(order):
        starts.append(start)
        fitting = int(np.searchsorted(held, before + goal, side="right"))
        start = max(start + 1, min(fitting, start + block_size))
        before = int(held[min(start, len(order)) - 1])
    return Layout(torch.from_numpy(order), (*starts, len(order)) if starts else (0,))


def permutation(count: int, seed: int) -> NDArray[np.int64]:
    """Return the order (M,) of Philox's 64-bit words of the numbers 0 ... M - 1; equal words stay in order."""
    words = philox4x32((np.arange(count), LAYOUT_TAG, 0, 0), halves(signed_64(seed)))
    order: NDArray[np.int64] = np.lexsort((words[1], words[0]))
    return order
