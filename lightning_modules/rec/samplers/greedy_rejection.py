"""Greedy rejection sampling: Harsha, Jain, McAllester, Radhakrishnan, "The Communication Complexity of Correlation",
IEEE Transactions on Information Theory 2010; as in iREC, appendix on rejection sampling.

Candidates are tried one after the other. Each trial accepts as much of q as it can: after i trials, what has been
accepted so far has density min(w(x), r_i) p(x) in all, and p*_i of mass, so trial i accepts x with probability
(w(x) - r_{i-1}) / (1 - p*_{i-1}), clipped to [0, 1].
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

import torch
from torch import Tensor

from lightning_modules.coding.shared_randomness import NORMAL_UNIT, halves, normal_integers, signed_64
from lightning_modules.exact.torch_functions import exp, ln
from lightning_modules.rec.samplers.auxiliary_variables import Targets
from lightning_modules.rec.samplers.sequential_sampler import VariableTask, uniforms

NUM_ATOMS = 100
SAMPLES_AT_ONCE = 1000
TRIALS_AT_ONCE = 256
PROFILE_VARIABLE = 1 << 23
"""Where the sender's samples of q are addressed, apart from its acceptance variates."""


class GreedyRejection:
    """Rejects greedily. num_samples: of q, to estimate the law of its weights. seed: of the sender's own randomness.

    Raises ValueError when no trial of those allowed accepts.
    """

    def __init__(self, *, num_samples: int, seed: int) -> None:
        if num_samples < NUM_ATOMS:
            raise ValueError(f"the law of weights takes at least {NUM_ATOMS} samples, got {num_samples}")
        self._num_samples = num_samples
        self._seed = seed

    def select(self, task: VariableTask) -> Tensor:
        return torch.stack([self._select_one(alone) for alone in task.alone()])

    def _select_one(self, task: VariableTask) -> Tensor:
        levels = rejection_levels(weight_atoms(task.targets, self._num_samples, self._seed))
        for start in range(0, task.num_candidates, TRIALS_AT_ONCE):
            trials = range(start, min(start + TRIALS_AT_ONCE, task.num_candidates))
            weights = exp(task.log_weights(trials)[0].clamp(-700.0, 700.0)).tolist()
            variates = uniforms(self._seed, task.blocks, task.variable, trials)[0].tolist()
            for trial, weight, variate in zip(trials, weights, variates, strict=True):
                level, left = next(levels)
                if weight - level > variate * left:
                    return torch.tensor(trial, device=task.blocks.device)
        raise ValueError(
            f"none of {task.num_candidates} trials was accepted: give each variable less KL, or allow more candidates"
        )


def rejection_levels(atoms: list[float]) -> Iterator[tuple[float, float]]:
    """Yield (r_{i-1}, 1 - p*_{i-1}) of trial i = 1, 2, ...; from r_0 = 0, p*_0 = 0.

    atoms: A ascending weights w, each of q-mass 1 / A and p-mass 1 / (A w); what p-mass that leaves lies at w = 0.
    r_i = r_{i-1} + 1 - p*_{i-1} and p*_i = p{w >= r_i} r_i + q{w < r_i}.
    """
    q_mass = 1.0 / len(atoms)
    p_above = [*reversed(list(accumulate((q_mass / weight for weight in reversed(atoms)), initial=0.0)))]
    level, left = 0.0, 1.0
    while True:
        yield level, left
        level += left
        below = bisect_left(atoms, level)
        left = max(0.0, 1.0 - (min(1.0, p_above[below]) * level + below * q_mass))


def weight_atoms(targets: Targets, num_samples: int, seed: int) -> list[float]:
    """Return NUM_ATOMS quantiles of w = q / p under q, of one block, each in the middle of its samples."""
    size = targets.mean.shape[1]
    rows = torch.arange(num_samples, device=targets.mean.device)
    address = (torch.zeros_like(rows), torch.full_like(rows, PROFILE_VARIABLE), rows)
    log_weights = torch.cat(
        [
            _log_weights_of_samples(targets, normal_integers(halves(signed_64(seed)), part, size) / NORMAL_UNIT)
            for part in zip(*(word.split(SAMPLES_AT_ONCE) for word in address), strict=True)
        ]
    )
    spacing = num_samples // NUM_ATOMS
    middles = log_weights.sort().values[spacing // 2 :: spacing][:NUM_ATOMS]
    weights: list[float] = exp(middles.clamp(-700.0, 700.0)).tolist()
    return weights


def _log_weights_of_samples(targets: Targets, normals: Tensor) -> Tensor:
    """Return log-weights (S,) of standard normals (S, D) as samples of q."""
    x = targets.mean + torch.sqrt(targets.ratio) * normals
    return 0.5 * (x * x - normals * normals - ln(targets.ratio)).sum(-1)
