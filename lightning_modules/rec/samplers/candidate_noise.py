"""Candidates for the auxiliary variables: which shared Gaussians stand for candidate i of variable k of a block.

Every path through the tree of indices has candidates of its own, or beams would all be offered the same steps and end
alike. `SignFlipped` draws one set for each variable and flips its signs by a hash of the path, which keeps scoring a
matrix product; `Independent` draws anew for each path.

Values are integers in units of 1 / NORMAL_UNIT: as float64 where they are summed, as float32, which holds them too,
where they are worked on one by one. Legend: N blocks (sorted, those with most variables
first), B beams, n candidates, D dimensions, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lightning_modules.coding.shared_randomness import (
    CPU_LANES,
    DIMENSIONS_PER_CALL,
    first_prefix,
    halves,
    normal_integers,
    signed_64,
    signs,
)

DEVICE_LANES = 1 << 20
WORKING_TYPE = torch.float32
"""The type of the sender's partial sums, and of candidates on their way there."""


class StepNoise(Protocol):
    """The candidates of one variable, for each of the beams."""

    def cross(self, weights: Tensor) -> Tensor:
        """Sum weights_d * candidate_d over d: (N, B, D) integers in float32 -> (N, B, n) float64."""

    def squares(self, weights: Tensor) -> Tensor:
        """Sum weights_d * candidate_d^2 over d: (N, D) integers -> (N, B or 1, n), all float64."""

    def chosen(self, beam: Tensor, candidate: Tensor) -> Tensor:
        """Return candidates by beam and number, each (N, M), -> (N, M, D) float32."""


OpenStep = Callable[[Tensor], StepNoise]
"""From the beams' prefixes (N, B) to the candidates of a variable."""


class CandidateNoise(Protocol):
    """The rule by which sender and receiver make candidates. seed: of the shared randomness."""

    seed: int

    def first_prefix(self, blocks: Tensor) -> Tensor:
        """Return the hashes (N,) that the blocks' lists of indices start from."""

    def steps(
        self, blocks: Tensor, num_active: Sequence[int], candidates: range, dimensions: int, first_variable: int = 0
    ) -> Iterator[OpenStep]:
        """Yield the candidates of one variable after the other, for the first `num_active[k]` of the blocks (N,)."""

    def replay(self, blocks: Tensor, variables: Tensor, prefixes: Tensor, indices: Tensor, dimensions: int) -> Tensor:
        """Return the chosen candidates, each argument (R,), -> (R, D)."""


class SignFlipped:
    """One set of Gaussians for each variable of a block, with signs for each path."""

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        self._key = halves(signed_64(seed))

    def first_prefix(self, blocks: Tensor) -> Tensor:
        return first_prefix(self.seed, blocks)

    def steps(
        self, blocks: Tensor, num_active: Sequence[int], candidates: range, dimensions: int, first_variable: int = 0
    ) -> Iterator[OpenStep]:
        lanes = CPU_LANES if blocks.device.type == "cpu" else DEVICE_LANES
        lanes_of_step = max(1, num_active[0] * len(candidates) * -(-dimensions // DIMENSIONS_PER_CALL))
        at_once = max(1, lanes // lanes_of_step)
        numbers = torch.arange(candidates.start, candidates.stop, device=blocks.device)
        for start in range(0, len(num_active), at_once):
            active = blocks[: num_active[start]]
            steps = torch.arange(start, min(start + at_once, len(num_active)), device=blocks.device)
            shape = (len(steps), len(active), len(numbers))
            address = (active[:, None], (steps + first_variable)[:, None, None], numbers)
            rows = normal_integers(self._key, [word.expand(shape).flatten() for word in address], dimensions)
            shared = rows.view(*shape, dimensions)
            for k, candidates_of_step in enumerate(shared, start):
                yield _opener(candidates_of_step[: num_active[k]])

    def replay(self, blocks: Tensor, variables: Tensor, prefixes: Tensor, indices: Tensor, dimensions: int) -> Tensor:
        rows = normal_integers(self._key, (blocks, variables, indices), dimensions)
        return rows.mul_(signs(prefixes, dimensions))


def _opener(shared: Tensor) -> OpenStep:
    return lambda prefixes: _FlippedStep(shared, signs(prefixes, shared.shape[-1]))


@dataclass(frozen=True)
class _FlippedStep:
    """Shared candidates (N, n, D), float64, and the paths' signs (N, B, D), float32."""

    shared: Tensor
    signs: Tensor

    def cross(self, weights: Tensor) -> Tensor:
        return torch.matmul((weights * self.signs).to(torch.float64), self.shared.mT)

    def squares(self, weights: Tensor) -> Tensor:
        return torch.matmul(weights[:, None], (self.shared * self.shared).mT)

    def chosen(self, beam: Tensor, candidate: Tensor) -> Tensor:
        return picked(self.signs, beam).mul_(picked(self.shared, candidate).to(WORKING_TYPE))


class Mirrored:
    """Makes candidate 2 i + 1 the negative of candidate 2 i, else as `SignFlipped`: half the numbers and products.

    For searches alone. Mirrored candidates are each as likely as any, but not independent, which samplers that promise
    fair samples need.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        self._pairs = SignFlipped(seed=seed)

    def first_prefix(self, blocks: Tensor) -> Tensor:
        return self._pairs.first_prefix(blocks)

    def steps(
        self, blocks: Tensor, num_active: Sequence[int], candidates: range, dimensions: int, first_variable: int = 0
    ) -> Iterator[OpenStep]:
        pairs = range(candidates.start // 2, -(-candidates.stop // 2))
        skipped = candidates.start - 2 * pairs.start
        span = slice(skipped, skipped + len(candidates))
        for open_step in self._pairs.steps(blocks, num_active, pairs, dimensions, first_variable):
            yield _mirrored_opener(open_step, span)

    def replay(self, blocks: Tensor, variables: Tensor, prefixes: Tensor, indices: Tensor, dimensions: int) -> Tensor:
        rows = self._pairs.replay(blocks, variables, prefixes, indices >> 1, dimensions)
        return rows.mul_(_mirror_sign(indices)[:, None])


def _mirrored_opener(open_step: OpenStep, span: slice) -> OpenStep:
    return lambda prefixes: _MirroredStep(open_step(prefixes), span)


@dataclass(frozen=True)
class _MirroredStep:
    """Candidates in pairs. pairs: the step of which each candidate is one of a pair. span: the candidates asked for."""

    pairs: StepNoise
    span: slice

    def cross(self, weights: Tensor) -> Tensor:
        positive = self.pairs.cross(weights)
        return torch.stack((positive, -positive), dim=-1).flatten(2)[..., self.span]

    def squares(self, weights: Tensor) -> Tensor:
        once = self.pairs.squares(weights)
        return once[..., None].expand(*once.shape, 2).flatten(-2)[..., self.span]

    def chosen(self, beam: Tensor, candidate: Tensor) -> Tensor:
        number = candidate + self.span.start
        return self.pairs.chosen(beam, number >> 1).mul_(_mirror_sign(number)[..., None])


def _mirror_sign(candidate: Tensor) -> Tensor:
    """Return +1 for even numbers, -1 for odd ones."""
    return 1.0 - (candidate & 1).to(WORKING_TYPE) * 2.0


class Independent:
    """Gaussians of its own for each path, as many times more of them as there are beams; the prefix is Philox's key."""

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    def first_prefix(self, blocks: Tensor) -> Tensor:
        return first_prefix(self.seed, blocks)

    def steps(
        self, blocks: Tensor, num_active: Sequence[int], candidates: range, dimensions: int, first_variable: int = 0
    ) -> Iterator[OpenStep]:
        for k, active in enumerate(num_active, first_variable):
            yield self._opener(blocks[:active], k, candidates, dimensions)

    def _opener(self, blocks: Tensor, variable: int, candidates: range, dimensions: int) -> OpenStep:
        numbers = torch.arange(candidates.start, candidates.stop, device=blocks.device)

        def open_step(prefixes: Tensor) -> StepNoise:
            shape = (*prefixes.shape, len(numbers))
            prefix, block, number = (
                word.expand(shape).flatten() for word in (prefixes[..., None], blocks[:, None, None], numbers)
            )
            rows = self.replay(block, torch.full_like(block, variable), prefix, number, dimensions)
            return _IndependentStep(rows.view(*shape, dimensions))

        return open_step

    def replay(self, blocks: Tensor, variables: Tensor, prefixes: Tensor, indices: Tensor, dimensions: int) -> Tensor:
        return normal_integers(halves(prefixes), (blocks, variables, indices), dimensions)


@dataclass(frozen=True)
class _IndependentStep:
    """The paths' own candidates (N, B, n, D), float64."""

    own: Tensor

    def cross(self, weights: Tensor) -> Tensor:
        return torch.matmul(self.own, weights[..., None].to(torch.float64))[..., 0]

    def squares(self, weights: Tensor) -> Tensor:
        return torch.matmul(self.own * self.own, weights[:, None, :, None])[..., 0]

    def chosen(self, beam: Tensor, candidate: Tensor) -> Tensor:
        block = torch.arange(len(beam), device=beam.device)[:, None]
        return self.own[block, beam, candidate].to(WORKING_TYPE)


def picked(rows: Tensor, numbers: Tensor) -> Tensor:
    """Pick rows (N, P, D) by numbers (N, M) in 0 ... P - 1 -> (N, M, D)."""
    if len(rows) == 1:
        return rows[0].index_select(0, numbers[0])[None]
    offsets = torch.arange(0, len(rows) * rows.shape[1], rows.shape[1], device=rows.device)[:, None]
    flat = rows.flatten(0, 1).index_select(0, (numbers + offsets).flatten())
    return flat.view(*numbers.shape, rows.shape[-1])
