"""Samplers of one variable: their laws, where they promise one, and their ends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from lightning_modules.rec.samplers.auxiliary_variables import (
    Gaussian,
    Targets,
    VarianceShare,
    conditional_posterior,
    conditional_prior,
    partial_sum,
    stack_targets,
)
from lightning_modules.rec.samplers.candidate_noise import SignFlipped
from lightning_modules.rec.samplers.greedy_rejection import GreedyRejection, rejection_levels, weight_atoms
from lightning_modules.rec.samplers.importance_sampling import ImportanceSampling, OrderedRandomCoding, ordered_times
from lightning_modules.rec.samplers.poisson_functional import PoissonFunctional, largest_log_weight
from lightning_modules.rec.samplers.schedule import EqualKL
from lightning_modules.rec.samplers.sequential_sampler import (
    OneByOne,
    SelectionRule,
    VariableTask,
    exponentials,
    one_variable_targets,
)
from lightning_modules.rec.samplers.variable_batch import VariableBatch, Variables, replay

MEAN, RATIO = 1.1, 0.3
RULES = [
    lambda: ImportanceSampling(temperature=1, seed=2),
    lambda: OrderedRandomCoding(seed=2),
    lambda: GreedyRejection(num_samples=2000, seed=2),
    lambda: PoissonFunctional(seed=2),
]
NAMES = ["importance", "ordered", "greedy rejection", "poisson"]


def one_dimensional(count: int, mean: float = MEAN, ratio: float = RATIO) -> Targets:
    one = torch.ones(count, 1, dtype=torch.float64)
    return Targets(mean * one, ratio * one, torch.ones(count, dtype=torch.int64))


def samples(
    rule: SelectionRule, count: int, num_candidates: int, variables: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums (count,) and indices, one for each of `count` blocks with the same target."""
    scales = EqualKL().scales(variables, 20)
    variables_of_batch = Variables.stacked(torch.arange(count), [scales] * count)
    batch = VariableBatch(one_dimensional(count), variables_of_batch, SignFlipped(seed=9), num_candidates)
    indices = OneByOne(rule=rule).choose(batch)
    return replay(batch.noise, variables_of_batch, indices, 1)[:, 0], indices


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
@pytest.mark.parametrize("variables", [1, 2])
def test_samples_follow_the_posterior(rule: Callable[[], SelectionRule], variables: int) -> None:
    found, _ = samples(rule(), 200, 1 << 11, variables)
    assert stats.kstest(found.numpy(), stats.norm(MEAN, math.sqrt(RATIO)).cdf).pvalue > 0.01


def test_without_perturbation_importance_sampling_takes_the_best_candidate() -> None:
    task = VariableTask(one_dimensional(5), _open(5), 50, torch.arange(5), 0)
    chosen = ImportanceSampling(temperature=0, seed=2).select(task)
    assert torch.equal(chosen, task.log_weights(range(50)).argmax(1))


def _open(count: int) -> Callable:
    blocks = torch.arange(count)

    def open_candidates(numbers: range, rows: slice):
        (open_step,) = SignFlipped(seed=9).steps(blocks[rows], [len(blocks[rows])], numbers, 1)
        return open_step(torch.zeros(len(blocks[rows]), 1, dtype=torch.int64))

    return open_candidates


def test_log_weights_are_log_density_ratios() -> None:
    task = VariableTask(one_dimensional(3), _open(3), 50, torch.arange(3), 0)
    beam = torch.zeros(3, 50, dtype=torch.int64)
    x = task.open_candidates(range(50), slice(None)).chosen(beam, torch.arange(50).expand(3, 50))[..., 0] / 4096
    normal = torch.distributions.Normal
    direct = normal(MEAN, math.sqrt(RATIO)).log_prob(x) - normal(0.0, 1.0).log_prob(x)
    assert float((task.log_weights(range(50)) - direct).abs().max()) < 1e-3


def test_ordered_random_coding_selects_by_the_law_of_importance_resampling() -> None:
    """Chi-square of the chosen weights' classes on one set of candidates, with fresh private randomness each time."""
    weights = torch.tensor([0.5, 0.1, 2.0, 1.0, 0.2, 3.0, 0.7, 0.5], dtype=torch.float64)
    times = ordered_times(exponentials(4, torch.arange(8000), 0, range(8)))
    orders = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(k)) for k in range(8000)])
    chosen = (weights.log()[orders] - times.log()).argmax(1)
    counts = torch.bincount(orders.gather(1, chosen[:, None])[:, 0], minlength=8)
    assert stats.chisquare(counts.numpy(), (weights / weights.sum() * 8000).numpy()).pvalue > 0.01


def test_ordered_times_are_ascending_and_their_unordered_law_is_exponential() -> None:
    times = ordered_times(exponentials(4, torch.arange(300), 0, range(20)))
    assert bool((times.diff(dim=1) > 0).all())
    assert stats.kstest(times.flatten().numpy() / 20, "expon").pvalue > 0.001


@pytest.mark.parametrize("rule", RULES[1::2], ids=NAMES[1::2])
def test_the_indices_of_ordered_and_poisson_samplers_are_as_short_as_their_papers_say(
    rule: Callable[[], SelectionRule],
) -> None:
    """E[log2 i] <= KL + log2(e) / e + 1 bits, i from 1."""
    _, indices = samples(rule(), 200, 1 << 11)
    bits = (0.5 * (RATIO + MEAN**2 - 1 - math.log(RATIO))) / math.log(2)
    assert float((indices.double() + 1).log2().mean()) < bits + math.log2(math.e) / math.e + 1


def test_a_variables_target_is_its_conditional_law() -> None:
    posterior = Gaussian(torch.tensor([0.8, -0.3], dtype=torch.float64), torch.tensor([0.4, 1.2], dtype=torch.float64))
    prior = Gaussian(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    variables = Variables.stacked(torch.zeros(1, dtype=torch.int64), [EqualKL().scales(4, 9)])
    batch = VariableBatch(stack_targets([posterior.mean], [posterior.variance]), variables, SignFlipped(seed=0), 4)
    b = torch.tensor([[0.5, -0.1]], dtype=torch.float64)
    t = variables.shares.revealed[0]
    step = t[2] - t[1]
    before = VarianceShare(t[1], 1 - t[1])
    pair = conditional_posterior(posterior, prior, before, b), conditional_prior(prior, before, b)
    law = partial_sum(*pair, VarianceShare(step / (1 - t[1]), (1 - t[2]) / (1 - t[1])))
    target = one_variable_targets(batch, 2, b)
    assert torch.allclose(target.mean, law.mean / step.sqrt(), rtol=1e-5, atol=0)
    assert torch.allclose(target.ratio, law.variance / step, rtol=1e-5, atol=0)


# ---- greedy rejection


def discrete_oracle(weights: list[float], masses: list[float], trials: int) -> list[tuple[float, float]]:
    """The definition of Harsha et al., by the mass of q that is still to be accepted at each value; (r, 1 - p*)."""
    taken, level = [0.0] * len(weights), 0.0
    levels: list[tuple[float, float]] = []
    for _ in range(trials):
        left = 1 - sum(taken)
        levels.append((level, left))
        level += left
        taken = [
            done + min(weight * mass - done, left * mass)
            for done, weight, mass in zip(taken, weights, masses, strict=True)
        ]
    return levels


def test_rejection_levels_are_those_of_the_definition() -> None:
    atoms = [0.5, 0.8, 1.5, 4.0, 9.0]
    masses = [0.2 / weight for weight in atoms]
    oracle = discrete_oracle([0.0, *atoms], [1 - sum(masses), *masses], 60)
    found = list(itertools.islice(rejection_levels(atoms), 60))
    assert np.allclose(found, oracle, rtol=0, atol=1e-12)
    assert found[0] == (0.0, 1.0)
    assert found[-1][1] < 0.05


def test_the_trial_that_accepts_has_the_law_of_the_recursion() -> None:
    targets = one_dimensional(1)
    levels = list(itertools.islice(rejection_levels(weight_atoms(targets, 2000, 2)), 9))
    stops = -np.diff([left for _, left in levels])
    _, indices = samples(GreedyRejection(num_samples=2000, seed=2), 300, 1 << 11)
    counts = np.bincount(indices[:, 0].clamp_max(8).numpy(), minlength=9)
    expected = np.array([*stops, 1 - stops.sum()]) * 300
    assert stats.chisquare(counts, expected).pvalue > 0.01


def test_a_sampler_that_runs_out_of_trials_says_so() -> None:
    task = VariableTask(one_dimensional(1, mean=9.0), _open(1), 20, torch.arange(1), 0)
    with pytest.raises(ValueError, match="none of 20 trials was accepted: give each variable less KL"):
        GreedyRejection(num_samples=2000, seed=1).select(task)
    with pytest.raises(ValueError, match="more than the 20 allowed"):
        PoissonFunctional(seed=1).select(task)


# ---- the Poisson functional representation


def test_the_largest_weight_is_at_the_mode_of_the_ratio() -> None:
    x = torch.linspace(-20, 20, 100_001, dtype=torch.float64)[:, None]
    ratios = one_dimensional(len(x)).log_ratio(x)
    assert abs(float(largest_log_weight(one_dimensional(1))) - float(ratios.max())) < 1e-6


def test_dimensions_that_equal_their_prior_do_not_count() -> None:
    targets = stack_targets([torch.tensor([1.0, 0.0]).double()], [torch.tensor([0.5, 1.0]).double()])
    assert torch.equal(largest_log_weight(targets), largest_log_weight(one_dimensional(1, 1.0, 0.5)))
