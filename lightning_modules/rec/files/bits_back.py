"""Bits-back coding of a lossless model's files: samples drawn by decoding bits that are there already.

    sender     level by level: pop z under q;  push x under p(x|z);  levels from the last: push z under p
    receiver   level by level: pop z under p;  pop x;  levels from the last: push z under q: the stack as it was before

Both compute inference, too, in integers, since the receiver has to undo the sender's draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.bits_back import TooFewBits
from lightning_modules.rec.files import binary_decisions
from lightning_modules.rec.files.binary_decisions import Int64s
from lightning_modules.rec.files.levels import on_grid
from lightning_modules.rec.files.quantile_code import PosteriorCells, middles
from lightning_modules.rec.models.hierarchy import Piece, Prior
from lightning_modules.rec.models.resnet_vae import ResNetVAE
from lightning_modules.records import ImageSize


class Drawn(NamedTuple):
    """A level that is known. cells: (N,). prior: what it was drawn with."""

    cells: Int64s
    prior: Prior


class Hierarchical:
    """networks with their integer twins, and the grid. bits: cells of a dimension are 2^bits."""

    def __init__(self, networks: ResNetVAE, pieces: Mapping[str, Piece], bits: int) -> None:
        self._networks, self._pieces, self.bits = networks, pieces, bits

    def features(self, padded: Tensor) -> list[Tensor]:
        """padded: (1, 3, H, W) of values 0 ... 255, of sides that are multiples of the stride."""
        return self._networks.infer_with(self._pieces, (padded.double() + 0.5) / 256.0 - 0.5)

    def posterior(self, level: int, feature: Tensor, prior: Prior) -> PosteriorCells:
        mean, spread = self._networks.posterior_with(self._pieces, level, feature, prior)
        portable = self._networks.scale_map.portable
        deviation = portable(prior.spread)
        parts = ((mean - prior.mean) / deviation, portable(spread) / deviation)
        return PosteriorCells(self.bits, *(part.cpu().numpy().ravel() for part in parts))

    def sample(self, cells: Int64s, prior: Prior) -> Tensor:
        """z, on the grid that all files share."""
        u = torch.from_numpy(middles(self.bits)[cells]).to(prior.mean).view(prior.mean.shape)
        scaled = u * self._networks.scale_map.portable(prior.spread)
        return on_grid(scaled + prior.mean)

    def generate(
        self, size: ImageSize, device: torch.device, draw: Callable[[int, Prior], Int64s]
    ) -> tuple[Tensor, list[Drawn]]:
        """All levels, each drawn as cells; what `ResNetVAE.generate` gives, and the levels."""
        levels: list[Drawn] = []

        def as_sample(level: int, prior: Prior) -> Tensor:
            levels.append(Drawn(draw(level, prior), prior))
            return self.sample(levels[-1].cells, prior)

        like = torch.zeros(1, 1, dtype=torch.float64, device=device)
        return self._networks.generate(self._pieces, like, size, as_sample), levels


class Pushed(NamedTuple):
    """Costs in bits, `back` negative. low: words below the state when least was on the stack."""

    bits: dict[str, float]
    low: int


def write(stack: AnsStack, model: Hierarchical, padded: Tensor, push_pixels: Callable[[Tensor], float]) -> Pushed:
    """One picture. push_pixels: puts them on the stack, given what pixels follow from. Raises `TooFewBits`."""
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
    return Pushed({"latents": latents, "back": -taken[0], "pixels": pixels}, low)


def read(
    stack: AnsStack, model: Hierarchical, size: ImageSize, device: torch.device, pop_pixels: Callable[[Tensor], Tensor]
) -> None:
    """The inverse: the stack is as it was before. pop_pixels: gives the padded picture, as `write` takes it."""

    def draw(level: int, prior: Prior) -> Int64s:
        del level
        return stack.pop_uniform(prior.mean.numel(), model.bits)

    state, levels = model.generate(size, device, draw)
    features = model.features(pop_pixels(state))
    for level in reversed(range(len(levels))):
        cells = model.posterior(level, features[level], levels[level].prior)
        binary_decisions.put(stack, list(binary_decisions.decided(levels[level].cells, model.bits, cells.below)))
