"""The levels 1 to L: the weights of each, and the one that a training step takes.

Level l codes the first l of L groups. The authors give weights for L = 16; as functions of l / L they span the same
trade-offs with every number of groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class LevelWeights(NamedTuple):
    """The weights of one level: of the MSE of pixels in [0, 1], of LPIPS, and of bpp."""

    distortion: float
    perception: float
    rate: float


@dataclass(frozen=True)
class LevelTable:
    """The weights of levels 1 to `levels`.

    distortion: at the top level, in proportion to the level below it. perception, rate: at level 0, which is none,
    and at the top; geometric in between.
    """

    levels: int
    distortion: float
    perception: tuple[float, float]
    rate: tuple[float, float]

    def __call__(self, level: int) -> LevelWeights:
        """Return the weights of a level. Raises `ValueError` for one that is none of 1 to `levels`."""
        if not 1 <= level <= self.levels:
            raise ValueError(f"level {level} is none of 1 to {self.levels}")
        share = level / self.levels
        perception, rate = (low * (high / low) ** share for low, high in (self.perception, self.rate))
        return LevelWeights(self.distortion * share, perception, rate)

    @property
    def top(self) -> LevelWeights:
        """Return the weights of the level at which everything is coded."""
        return self(self.levels)


def descending(levels: int) -> Callable[[int], int]:
    """Make the schedule from the step, counted from 0, to its level: L, L-1, ..., 1, L, ..."""
    return lambda step: levels - step % levels
