"""Beam search: the best of all paths where it keeps them all, the same path however it is computed."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from lightning_modules.rec.samplers.auxiliary_variables import Targets, stack_targets
from lightning_modules.rec.samplers.beam_search import BeamSearch
from lightning_modules.rec.samplers.candidate_noise import CandidateNoise, Independent, Mirrored, SignFlipped
from lightning_modules.rec.samplers.candidate_scores import best_paths, step_scores
from lightning_modules.rec.samplers.schedule import EqualKL
from lightning_modules.rec.samplers.variable_batch import VariableBatch, Variables, replay
from tests.lightning_modules.rec.peer_target import peer_target

NOISES = [SignFlipped, Mirrored, Independent]


def batch_of(
    noise: CandidateNoise, num_candidates: int, count: int, dimensions: int = 30, nats: float = 6.0
) -> VariableBatch:
    posterior, _ = peer_target(dimensions, nats, seed=3)
    targets = stack_targets([posterior.mean], [posterior.variance])
    blocks = torch.tensor([11])
    return VariableBatch(targets, Variables.stacked(blocks, [EqualKL().scales(count, 9)]), noise, num_candidates)


def log_ratio(batch: VariableBatch, path: tuple[int, ...]) -> float:
    sums = replay(batch.noise, batch.variables, torch.tensor([path]), batch.targets.mean.shape[1])
    return float(batch.targets.log_ratio(sums))


@pytest.mark.parametrize("noise", NOISES)
def test_enough_beams_find_the_best_of_all_paths(noise: type) -> None:
    batch = batch_of(noise(seed=1), num_candidates=8, count=2)
    best = max(itertools.product(range(8), repeat=2), key=lambda path: log_ratio(batch, path))
    assert BeamSearch(num_beams=64).choose(batch).tolist() == [list(best)]


@pytest.mark.parametrize("noise", NOISES)
def test_one_candidate_forces_the_path(noise: type) -> None:
    batch = batch_of(noise(seed=1), num_candidates=1, count=5)
    assert BeamSearch(num_beams=20).choose(batch).tolist() == [[0] * 5]


@pytest.mark.parametrize("noise", NOISES)
def test_one_beam_takes_the_best_next_candidate(noise: type) -> None:
    batch = batch_of(noise(seed=2), num_candidates=7, count=3)
    path = BeamSearch(num_beams=1).choose(batch)[0].tolist()
    first = max(range(7), key=lambda index: _score_after_one(batch, index))
    assert path[0] == first


def _score_after_one(batch: VariableBatch, index: int) -> float:
    """log q(b_1) / p(b_1) by two densities."""
    alone = Variables(batch.variables.blocks, torch.tensor([1]), batch.variables.scales[:, :1])
    b = replay(batch.noise, alone, torch.tensor([[index]]), batch.targets.mean.shape[1])[0]
    t = float(batch.variables.shares.revealed[0, 0])
    mean, ratio = batch.targets.mean[0] * t, batch.targets.ratio[0]
    q = torch.distributions.Normal(mean, (ratio * t * t + t * (1 - t)).sqrt())
    return float((q.log_prob(b) - torch.distributions.Normal(0.0, math.sqrt(t)).log_prob(b)).sum())


@pytest.mark.parametrize("noise", NOISES)
def test_scores_by_matrix_products_are_the_log_density_ratios(noise: type) -> None:
    batch = batch_of(noise(seed=3), num_candidates=9, count=4, dimensions=200, nats=40.0)
    variables, targets = batch.variables, batch.targets
    forms = list(step_scores(targets, variables.shares, variables.steps, variables.num_active))
    b = 0.3 * torch.randn(1, 5, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for k, (form, open_step) in enumerate(
        zip(forms, batch.noise.steps(variables.blocks, [1] * 4, range(9), 200), strict=True)
    ):
        noise_of_step = open_step(torch.arange(5)[None])
        beams, candidates = (
            word.reshape(1, -1) for word in torch.meshgrid(torch.arange(5), torch.arange(9), indexing="ij")
        )
        sums = b[:, beams[0]] + noise_of_step.chosen(beams, candidates) / 4096 * variables.steps[0, k]
        t, rest = (float(part[0, k]) for part in variables.shares)
        mean, variance = targets.mean * t, t * (t * targets.ratio + rest)
        direct = 0.5 * (sums.square() / t - (sums - mean).square() / variance).sum(-1)
        scores = (
            form.of_candidates(b, noise_of_step).flatten(1)
            - 0.5 * t * (targets.mean.square() / (t * targets.ratio + rest)).sum()
        )
        assert float((scores - direct).abs().max()) < 2e-3


def test_ties_go_to_the_lower_number() -> None:
    scores = torch.tensor([[[1.0, 3.0], [3.0, 1.0], [3.0, 0.0]]], dtype=torch.float64)
    beams, candidates = best_paths(scores, 4)
    assert list(zip(beams[0].tolist(), candidates[0].tolist(), strict=True)) == [(0, 1), (1, 0), (2, 0), (0, 0)]


def batch(sizes: list[int], nats: list[float]) -> tuple[Targets, Variables]:
    parts = [peer_target(size, kl, seed=k)[0] for k, (size, kl) in enumerate(zip(sizes, nats, strict=True))]
    targets = stack_targets([part.mean for part in parts], [part.variance for part in parts])
    counts = [math.ceil(kl / 3) for kl in nats]
    return targets, Variables.stacked(torch.arange(len(sizes)), [EqualKL().scales(count, 9) for count in counts])


@pytest.mark.parametrize("noise", NOISES)
def test_a_block_gets_the_same_indices_in_any_batch(noise: type) -> None:
    targets, variables = batch([100, 64, 33], [30.0, 21.0, 3.0])
    search = BeamSearch(num_beams=6)
    together = search.choose(VariableBatch(targets, variables, noise(seed=5), 20))
    for k, count in enumerate(variables.counts.tolist()):
        alone = Variables(variables.blocks[k : k + 1], variables.counts[k : k + 1], variables.scales[k : k + 1, :count])
        one = VariableBatch(targets.rows(slice(k, k + 1)).trimmed(), alone, noise(seed=5), 20)
        assert search.choose(one)[0].tolist() == together[k, :count].tolist()
        assert not together[k, count:].any()


@pytest.mark.parametrize("noise", NOISES)
def test_one_and_two_threads_choose_the_same_indices(noise: type) -> None:
    batch = batch_of(noise(seed=6), num_candidates=24, count=12, dimensions=700, nats=60.0)
    threads = torch.get_num_threads()
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(BeamSearch(num_beams=16).choose(batch))
    torch.set_num_threads(threads)
    assert torch.equal(*found)


@pytest.mark.gpu
@pytest.mark.parametrize("noise", NOISES)
def test_a_gpu_chooses_the_same_indices(noise: type) -> None:
    targets, variables = batch([100, 64, 33], [30.0, 21.0, 3.0])
    search = BeamSearch(num_beams=6)
    on_device = Variables(variables.blocks.cuda(), variables.counts.cuda(), variables.scales.cuda())
    there = search.choose(VariableBatch(Targets(*(part.cuda() for part in targets)), on_device, noise(seed=5), 20))
    assert torch.equal(there.cpu(), search.choose(VariableBatch(targets, variables, noise(seed=5), 20)))


def test_a_search_without_beams_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 beam"):
        BeamSearch(num_beams=0)
