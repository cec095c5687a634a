"""The options of reading a SIC file: at some level, as one of many synonyms, or without any randomness.

`sic.level=`, `sic.samples=` and the rest of conf/decoding/sic.yaml make a `Reading`, which every codec is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.codec import Codec
from lightning_modules.coding.shared_randomness import LOW_32, philox4x32
from lightning_modules.errors import CodingError
from lightning_modules.sic.synonym_noise import mean_detail, uniform_detail

WORDS = 4
"""Words of one call of the generator."""

SEEDS = 1 << 32


class Address(NamedTuple):
    """The address of random numbers. seed: in the file. sample: number of the picture. channel: the first one drawn."""

    seed: int
    sample: int
    channel: int


Detail = Callable[[Tensor, Address, float], Tensor]
"""(hyper-means (c, h, w), address, reach) -> integers in floating point, (c, h, w), with gradients to the means."""


def draws(address: Address, size: tuple[int, int, int]) -> Tensor:
    """Draw (c, h, w) float64 multiples of 2^-32 in [0, 1), the same everywhere.

    Position p = row * w + column of a channel has word p mod 4 of Philox4x32 with the counter
    (p // 4, channel, sample, 0) and the key (seed, 0). So none depends on which other channels are drawn.
    """
    channels, height, width = size
    calls = torch.arange(-(-height * width // WORDS))
    numbers = torch.arange(address.channel, address.channel + channels)[:, None]
    words = philox4x32((calls, numbers, torch.tensor(address.sample), torch.tensor(0)), (address.seed & LOW_32, 0))
    drawn = torch.stack(words, dim=-1).flatten(1)[:, : height * width]
    return drawn.reshape(size).double() / SEEDS


def random_detail(means: Tensor, address: Address, reach: float) -> Tensor:
    c, h, w = means.shape
    drawn = draws(address, (c, h, w)).to(means.device)
    return uniform_detail(means[None], drawn[None, None], reach)[0]


def least_detail(means: Tensor, address: Address, reach: float) -> Tensor:
    del address, reach
    return mean_detail(means)


DETAILS: dict[str, Detail] = {"random": random_detail, "mean": least_detail}


class Reading:
    """The options with which files are read and written.

    level: of rate; None: all there are. samples: pictures of each file.
    detail: "random", or "mean" for a preview without randomness. reach: of random detail, around the hyper-means.
    seed: of the detail, written into files; None: one that follows from the picture.
    """

    def __init__(
        self,
        *,
        level: int | None = None,
        samples: int = 1,
        detail: str = "random",
        reach: float = 2.0,
        seed: int | None = None,
    ) -> None:
        if detail not in DETAILS:
            raise CodingError(f"sic.detail={detail}: allowed are {' and '.join(DETAILS)}")
        if level is not None and level < 1:
            raise CodingError(f"sic.level={level}: levels count from 1")
        if samples < 1 or (samples > 1 and detail == "mean"):
            raise CodingError(f"sic.samples={samples}: at least 1, and no more than that of sic.detail=mean")
        if seed is not None and not 0 <= seed < SEEDS:
            raise CodingError(f"sic.seed={seed}: allowed are 0 to 2^32 - 1")
        self.level, self.samples, self.detail, self.reach, self.seed = level, samples, DETAILS[detail], reach, seed

    def draw(self, means: Tensor, address: Address) -> Tensor:
        """Draw detail around hyper-means, (c, h, w), of the channels from the address's on."""
        return self.detail(means, address, self.reach)

    def __call__(self, codec: Codec) -> None:
        """Have a codec of SIC read its files so; others are left alone."""
        if isinstance(codec, Readable):
            codec.reading = self


class Readable:
    """A codec whose files are read as its `reading` says."""

    reading: Reading
