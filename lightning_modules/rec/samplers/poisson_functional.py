"""The Poisson functional representation: Li, El Gamal, "Strong Functional Representation Lemma and Applications to
Coding Theorems", IEEE Transactions on Information Theory 2018 (arXiv:1701.02827); as a search, global-bound A* coding.

Candidates arrive at the times T_i of a Poisson process; argmin T_i / w_i has exactly the law q, and log2 of its index
is about KL + log2(KL + 1) bits. The expected number of trials is the largest weight, so this is for small KL.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_modules.exact.torch_functions import ln, tree_sum
from lightning_modules.rec.samplers.auxiliary_variables import Targets
from lightning_modules.rec.samplers.sequential_sampler import VariableTask, exponentials

TRIALS_AT_ONCE = 256


class PoissonFunctional:
    """Searches arrivals. seed: of the sender's own randomness. Raises ValueError where weights have no bound."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed

    def select(self, task: VariableTask) -> Tensor:
        return torch.stack([self._select_one(alone) for alone in task.alone()])

    def _select_one(self, task: VariableTask) -> Tensor:
        bound = float(largest_log_weight(task.targets)[0])
        if bound > math.log(task.num_candidates):
            raise _endless(bound, task.num_candidates)
        best, index, time = math.inf, 0, 0.0
        for start in range(0, task.num_candidates, TRIALS_AT_ONCE):
            trials = range(start, min(start + TRIALS_AT_ONCE, task.num_candidates))
            waits = exponentials(self._seed, task.blocks, task.variable, trials)
            times = time + waits[0].cpu().cumsum(0)
            time = float(times[-1])
            log_costs = ln(times) - task.log_weights(trials)[0].cpu()
            least = int(log_costs.argmin())
            if float(log_costs[least]) < best:
                best, index = float(log_costs[least]), start + least
            if math.log(time) - bound >= best:
                return torch.tensor(index, device=task.blocks.device)
        raise _endless(bound, task.num_candidates)


def _endless(bound: float, num_candidates: int) -> ValueError:
    return ValueError(
        f"a sample takes about e^{bound:.1f} trials, more than the {num_candidates} allowed: give each variable less "
        "KL, or use ordered random coding"
    )


def largest_log_weight(targets: Targets) -> Tensor:
    """Return the log (N,) of the largest q(x) / p(x). Raises ValueError for a posterior not narrower than its prior."""
    narrower = 1.0 - targets.ratio
    shift = targets.mean * targets.mean
    if bool(((narrower < 0) | ((narrower == 0) & (shift > 0))).any()):
        raise ValueError(
            "a posterior is as wide as its prior or wider, so its density ratio has no bound and this sampler no end: "
            "use ordered random coding"
        )
    pull = torch.where(narrower > 0, shift / narrower, torch.zeros_like(shift))
    return 0.5 * tree_sum(pull - ln(targets.ratio))
