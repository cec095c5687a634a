"""One auxiliary variable at a time: each is coded by an index of its own, given the ones before it.

Given b_{k-1}, the variable's prior N(0, sigma_k^2) and posterior are again independent Gaussians, so in units of
sigma_k every step is the same task: a target N(mean, ratio) against candidates x_i ~ N(0, 1). A rule that returns fair
samples of its targets gives a fair sample of the posterior. Legend: N blocks, n candidates, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lightning_modules.coding.shared_randomness import extended_prefix, halves, philox4x32, signed_64
from lightning_modules.exact.torch_functions import ln
from lightning_modules.rec.samplers.auxiliary_variables import (
    Gaussian,
    Targets,
    VarianceShare,
    conditional_posterior,
    conditional_prior,
    partial_sum,
)
from lightning_modules.rec.samplers.candidate_noise import StepNoise
from lightning_modules.rec.samplers.candidate_scores import one_shot_log_weights
from lightning_modules.rec.samplers.variable_batch import SUM_UNIT, VariableBatch

PRIVATE_TAG = 0x2545F491
"""First word of the counter's last place, where shared randomness has the block."""

OpenCandidates = Callable[[range, slice], StepNoise]


@dataclass(frozen=True)
class VariableTask:
    """One variable of N blocks.

    targets: (N, D). open_candidates: the candidates of a range of numbers, for one path in each of a slice of the
    blocks. num_candidates: how many there are of them, or, for rules that stop by themselves, may be tried. blocks:
    (N,), variable: what private randomness is addressed by.
    """

    targets: Targets
    open_candidates: OpenCandidates
    num_candidates: int
    blocks: Tensor
    variable: int

    def log_weights(self, candidates: range) -> Tensor:
        """Return log q(x) / p(x) (N, n)."""
        return one_shot_log_weights(self.targets, self.open_candidates(candidates, slice(None)))

    def alone(self) -> list[VariableTask]:
        """Return the same for each block by itself, for rules that try different numbers of candidates."""
        return [self._row(slice(k, k + 1)) for k in range(len(self.blocks))]

    def _row(self, row: slice) -> VariableTask:
        def open_candidates(candidates: range, rows: slice) -> StepNoise:
            return self.open_candidates(candidates, row)

        return VariableTask(
            self.targets.rows(row), open_candidates, self.num_candidates, self.blocks[row], self.variable
        )


class SelectionRule(Protocol):
    """Selects one of the candidates."""

    def select(self, task: VariableTask) -> Tensor:
        """Return the candidate (N,) of each block, int64."""


class OneByOne:
    """Samples variable after variable by a rule, without search."""

    num_paths = 1

    def __init__(self, *, rule: SelectionRule) -> None:
        self._rule = rule

    def choose(self, batch: VariableBatch) -> Tensor:
        variables, dimensions = batch.variables, batch.targets.mean.shape[1]
        indices = torch.zeros_like(variables.scales)
        b = torch.zeros_like(batch.targets.mean)
        prefixes = batch.noise.first_prefix(variables.blocks)
        for k, active in enumerate(variables.num_active):
            b, prefixes, blocks = b[:active], prefixes[:active], variables.blocks[:active]

            def open_candidates(
                numbers: range, rows: slice, k: int = k, blocks: Tensor = blocks, prefixes: Tensor = prefixes
            ) -> StepNoise:
                (open_step,) = batch.noise.steps(blocks[rows], [len(blocks[rows])], numbers, dimensions, k)
                return open_step(prefixes[rows, None])

            task = VariableTask(one_variable_targets(batch, k, b), open_candidates, batch.num_candidates, blocks, k)
            index = self._rule.select(task)
            variable = torch.full_like(blocks, k)
            chosen = batch.noise.replay(blocks, variable, prefixes, index, dimensions)
            b = b + chosen * (variables.scales[:active, k, None].to(torch.float64) * SUM_UNIT)
            prefixes = extended_prefix(prefixes, index)
            indices[:active, k] = index
        return indices


def one_variable_targets(batch: VariableBatch, k: int, b: Tensor) -> Targets:
    """Return q(a_k | b_{k-1}) in units of sigma_k, for the blocks whose sums b (N, D) are given."""
    targets = batch.targets.rows(slice(len(b)))
    step = batch.variables.steps[: len(b), k, None]
    rest = batch.variables.shares.rest[: len(b), k, None]
    variance = step * step
    before = VarianceShare(1.0 - (variance + rest), variance + rest)
    prior = Gaussian(torch.zeros_like(targets.mean), torch.ones_like(targets.mean))
    posterior = Gaussian(targets.mean, torch.sqrt(targets.ratio))
    variable = partial_sum(
        conditional_posterior(posterior, prior, before, b),
        conditional_prior(prior, before, b),
        VarianceShare(variance / before.rest, rest / before.rest),
    )
    spread = variable.std / step
    return Targets(variable.mean / step, spread * spread, targets.sizes)


# ---- random numbers of the sender alone: no file depends on them, but the same input gives the same file


def uniforms(seed: int, blocks: Tensor, variable: int, candidates: range) -> Tensor:
    """Return (N, n) multiples of 2^-33 strictly between 0 and 1, addressed by block, variable and candidate."""
    numbers = torch.arange(candidates.start, candidates.stop, device=blocks.device)
    words = philox4x32((numbers[None], blocks[:, None], variable, PRIVATE_TAG), halves(signed_64(seed)))
    return (words[0].to(torch.float64) + 0.5) / float(1 << 32)


def exponentials(seed: int, blocks: Tensor, variable: int, candidates: range) -> Tensor:
    """Return exponentials (N, n) of mean 1."""
    return -ln(uniforms(seed, blocks, variable, candidates))
