"""Importance sampling of one variable: among n candidates, by their weights q / p (iREC, section 3.1, algorithm 1).

And ordered random coding (Theis, Ahmed, "Algorithms for the Communication of Samples", ICML 2022, arXiv:2110.12805):
the law of the selected sample is exactly that of importance resampling, but small indices are favoured, since the
Gumbel variates that perturb log weights are dealt out in descending order. The index is then worth an entropy code, see
`lightning_modules/rec/files/message_code.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.exact.torch_functions import ln
from lightning_modules.rec.samplers.candidate_scores import best_paths
from lightning_modules.rec.samplers.sequential_sampler import VariableTask, exponentials


class ImportanceSampling:
    """A sample of the softmax of log weights / temperature, by the Gumbel-max trick.

    temperature: 0 for the best candidate; 1 for a resample by the weights (minimal random coding: Havasi, Peharz,
    Hernandez-Lobato, ICLR 2019), whose law tends to q as n grows. seed: of the sender's own randomness.
    """

    def __init__(self, *, temperature: float, seed: int) -> None:
        if temperature < 0:
            raise ValueError(f"a temperature must be at least 0, got {temperature}")
        self._temperature = temperature
        self._seed = seed

    def select(self, task: VariableTask) -> Tensor:
        candidates = range(task.num_candidates)
        gumbels = -ln(exponentials(self._seed, task.blocks, task.variable, candidates))
        scores = task.log_weights(candidates) + gumbels * self._temperature
        return best_paths(scores[:, None], 1)[1][:, 0]


class OrderedRandomCoding:
    """Takes argmin ln T_i - ln w_i, with T_i = sum over j <= i of N / (N - j + 1) E_j and E_j exponential.

    seed: of the sender's own randomness.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed

    def select(self, task: VariableTask) -> Tensor:
        candidates = range(task.num_candidates)
        times = ordered_times(exponentials(self._seed, task.blocks, task.variable, candidates))
        return best_paths((task.log_weights(candidates) - ln(times))[:, None], 1)[1][:, 0]


def ordered_times(exponential: Tensor) -> Tensor:
    """Return n times the order statistics of independent exponentials (N, n), ascending."""
    count = exponential.shape[-1]
    left = torch.arange(count, 0, -1, dtype=torch.float64, device=exponential.device)
    # added one after the other on the CPU: parallel prefix sums differ between devices in the last bits
    return (exponential * (count / left)).cpu().cumsum(-1).to(exponential.device)
