"""A batch of blocks with their auxiliary variables: what a sampler gets, and the sums that its indices stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lightning_modules.coding.shared_randomness import NORMAL_UNIT, extended_prefix
from lightning_modules.rec.samplers.auxiliary_variables import Targets, VarianceShare
from lightning_modules.rec.samplers.candidate_noise import CandidateNoise
from lightning_modules.rec.samplers.schedule import DEVIATION_BITS

SUM_UNIT = 1.0 / (NORMAL_UNIT << DEVIATION_BITS)
"""Partial sums are multiples of this, 2^-42, and below 2^11 of them in float64: their additions are exact."""
REPLAY_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class Variables:
    """The auxiliary variables of N blocks, K at most.

    blocks: (N,) int64, the numbers that address their randomness. counts: (N,) int64, descending. scales: (N, K)
    int64 in units of 2^-DEVIATION_BITS, 0 beyond a block's count.
    """

    blocks: Tensor
    counts: Tensor
    scales: Tensor

    @classmethod
    def stacked(cls, blocks: Tensor, scales: Sequence[Tensor]) -> Variables:
        """Stack scales, one vector for each block (N,), the longest first."""
        counts = torch.tensor([len(vector) for vector in scales], device=blocks.device)
        return cls(blocks, counts, pad_sequence(list(scales), batch_first=True).to(blocks.device))

    @cached_property
    def num_active(self) -> list[int]:
        """Count the blocks that have a variable k, (K,)."""
        return [int((self.counts > k).sum()) for k in range(self.scales.shape[1])]

    @cached_property
    def steps(self) -> Tensor:
        """Return sigma_k / sigma (N, K)."""
        return self.scales.to(torch.float64) / float(1 << DEVIATION_BITS)

    @cached_property
    def shares(self) -> VarianceShare:
        """Return shares (N, K) after each variable, summed as integers: the rest after the last one is exactly 0."""
        squares = self.scales * self.scales
        revealed = squares.cumsum(1)
        whole = float(1 << (2 * DEVIATION_BITS))
        return VarianceShare(
            revealed.to(torch.float64) / whole, (revealed[:, -1:] - revealed).to(torch.float64) / whole
        )


@dataclass(frozen=True)
class VariableBatch:
    """Targets (N, D) and variables of the same blocks, and where their candidates come from."""

    targets: Targets
    variables: Variables
    noise: CandidateNoise
    num_candidates: int


class Sampler(Protocol):
    """Chooses candidates whose sum looks like a sample of the posterior. num_paths: sums that it holds of a block."""

    num_paths: int

    def choose(self, batch: VariableBatch) -> Tensor:
        """Return the index of each variable (N, K), int64, 0 beyond a block's count."""


def replay(noise: CandidateNoise, variables: Variables, indices: Tensor, dimensions: int) -> Tensor:
    """Return sums (N, D) of the chosen candidates in prior units: all that a receiver computes. Exact, see SUM_UNIT."""
    prefixes = _prefixes(noise, variables, indices)
    count = indices.shape[1]
    sums = torch.zeros(len(indices), dimensions, dtype=torch.float64, device=indices.device)
    at_once = max(1, REPLAY_ELEMENTS // (max(1, count) * dimensions))
    for start in range(0, len(indices), at_once):
        rows = slice(start, start + at_once)
        active = variables.scales[rows] > 0
        block, variable = active.nonzero(as_tuple=True)
        chosen = noise.replay(
            variables.blocks[rows][block], variable, prefixes[rows][active], indices[rows][active], dimensions
        )
        scaled = chosen.mul_(variables.scales[rows][active].to(torch.float64)[:, None])
        sums[rows].index_add_(0, block, scaled)
    return sums * SUM_UNIT


def _prefixes(noise: CandidateNoise, variables: Variables, indices: Tensor) -> Tensor:
    """Return the hashes (N, K) of the indices before each variable."""
    prefix = noise.first_prefix(variables.blocks)
    prefixes = [prefix]
    for index in indices.unbind(1)[:-1]:
        prefix = extended_prefix(prefix, index)
        prefixes.append(prefix)
    return torch.stack(prefixes, dim=1)
