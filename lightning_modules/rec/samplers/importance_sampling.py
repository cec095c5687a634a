"""Importance sampling of one variable: among n candidates, by their weights q / p (iREC, section 3.1, algorithm 1)."""

from __future__ import annotations

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
