"""Beam search over the indices of all variables (iREC, section 3.3, algorithm 2): the sampler of the paper's results.

The best partial sums, by the density ratio log q(b_k) / p(b_k), are extended by every candidate of the next variable.
The result is the best sum found, not a fair sample: with few beams it is too likely under the prior, with many and
with more candidates than the KL asks for it is too near the posterior's mode.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.coding.shared_randomness import extended_prefix
from lightning_modules.rec.samplers.candidate_noise import WORKING_TYPE, picked
from lightning_modules.rec.samplers.candidate_scores import best_paths, step_scores
from lightning_modules.rec.samplers.variable_batch import SUM_UNIT, VariableBatch


class BeamSearch:
    """Searches with beams. num_beams: partial sums kept after each variable, B."""

    def __init__(self, *, num_beams: int) -> None:
        if num_beams < 1:
            raise ValueError(f"a search needs at least 1 beam, got {num_beams}")
        self.num_paths = num_beams

    def choose(self, batch: VariableBatch) -> Tensor:
        targets, variables = batch.targets, batch.variables
        num_active = variables.num_active
        scales = (variables.scales[..., None, None].to(torch.float64) * SUM_UNIT).to(WORKING_TYPE)
        b = torch.zeros_like(targets.mean, dtype=WORKING_TYPE)[:, None]  # (N, 1, D)
        prefixes = batch.noise.first_prefix(variables.blocks)[:, None]
        opened = batch.noise.steps(variables.blocks, num_active, range(batch.num_candidates), targets.mean.shape[1])
        forms = step_scores(targets, variables.shares, variables.steps, num_active)
        kept = []
        for k, (open_step, form, active) in enumerate(zip(opened, forms, num_active, strict=True)):
            b, prefixes = b[:active], prefixes[:active]
            noise = open_step(prefixes)
            scores = form.of_candidates(b, noise)
            beams, chosen = best_paths(scores, min(self.num_paths, scores[0].numel()))
            b = noise.chosen(beams, chosen).mul_(scales[:active, k]).add_(picked(b, beams))
            prefixes = extended_prefix(prefixes.gather(1, beams), chosen)
            kept.append((beams, chosen))
        return traced_back(kept, batch)


def traced_back(kept: list[tuple[Tensor, Tensor]], batch: VariableBatch) -> Tensor:
    """Return the indices (N, K) along the path to each block's best beam, beam 0 after its last variable."""
    indices = torch.zeros_like(batch.variables.scales)
    beam = torch.zeros_like(batch.variables.blocks)
    for k in range(len(kept) - 1, -1, -1):
        beams, chosen = kept[k]
        here = beam[: len(beams), None]
        indices[: len(beams), k] = chosen.gather(1, here)[:, 0]
        beam[: len(beams)] = beams.gather(1, here)[:, 0]
    return indices
