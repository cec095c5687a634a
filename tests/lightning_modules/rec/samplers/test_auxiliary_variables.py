"""Closed forms of the auxiliary variables: against joint Gaussians, against sampling, and by the chain rule."""

from __future__ import annotations

import torch

from lightning_modules.rec.samplers.auxiliary_variables import (
    Gaussian,
    VarianceShare,
    conditional_posterior,
    conditional_prior,
    equal_kl_variances,
    kl_divergence,
    kl_profile,
    partial_sum,
    power_law_variances,
)
from tests.lightning_modules.rec.peer_target import peer_target

GENERATOR = torch.Generator().manual_seed(0)
D = 40
PRIOR = Gaussian(*(torch.rand(2, D, dtype=torch.float64, generator=GENERATOR) + torch.tensor([[-0.5], [0.3]])))
POSTERIOR = Gaussian(
    PRIOR.mean + torch.randn(D, dtype=torch.float64, generator=GENERATOR),
    PRIOR.std * (0.05 + 1.5 * torch.rand(D, dtype=torch.float64, generator=GENERATOR)),
)
SHARE = VarianceShare(torch.tensor(0.37, dtype=torch.float64), torch.tensor(0.63, dtype=torch.float64))


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def linear_gaussian(b: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """b_k given z is N(t (z - nu), t (1 - t) sigma^2); Bayes' rule gives all else. -> moments of q(b), of q(z | b)."""
    t, rest = SHARE
    noise = t * rest * PRIOR.variance
    mean_b, variance_b = t * (POSTERIOR.mean - PRIOR.mean), t * t * POSTERIOR.variance + noise
    gain = t * POSTERIOR.variance / variance_b
    return mean_b, variance_b, POSTERIOR.mean + gain * (b - mean_b), POSTERIOR.variance * (1 - gain * t)


def test_partial_sums_and_conditionals_are_those_of_the_joint_gaussian() -> None:
    b = torch.randn(D, dtype=torch.float64, generator=GENERATOR)
    mean_b, variance_b, mean_z, variance_z = linear_gaussian(b)
    sums = partial_sum(POSTERIOR, PRIOR, SHARE)
    assert close(sums.mean, mean_b)
    assert close(sums.variance, variance_b)
    conditional = conditional_posterior(POSTERIOR, PRIOR, SHARE, b)
    assert close(conditional.mean, mean_z)
    assert close(conditional.variance, variance_z)
    assert close(conditional_prior(PRIOR, SHARE, b).variance, 0.63 * PRIOR.variance)


def test_partial_sums_begin_with_nothing_and_end_with_the_posterior() -> None:
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    everything, nothing = (partial_sum(POSTERIOR, PRIOR, VarianceShare(*parts)) for parts in ((one, zero), (zero, one)))
    assert close(everything.mean + PRIOR.mean, POSTERIOR.mean)
    assert close(everything.std, POSTERIOR.std)
    assert not nothing.mean.any()
    assert not nothing.std.any()


def test_kl_is_the_librarys_and_the_profile_is_that_of_partial_sums() -> None:
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(*POSTERIOR), torch.distributions.Normal(*PRIOR)
    ).sum()
    assert close(kl_divergence(POSTERIOR, PRIOR), theirs)
    t = torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    profile = kl_profile(POSTERIOR, PRIOR, t)
    for revealed, kl in zip(t, profile, strict=True):
        sums = partial_sum(POSTERIOR, PRIOR, VarianceShare(revealed, 1 - revealed))
        assert close(kl, kl_divergence(sums, Gaussian(torch.zeros_like(sums.mean), PRIOR.std * revealed.sqrt())))
    assert close(profile[-1], theirs)


def test_the_kl_of_a_mean_shift_is_linear_in_the_share_and_that_of_a_variance_convex() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    shifted = kl_profile(Gaussian(POSTERIOR.mean, PRIOR.std), PRIOR, t)
    assert close(shifted, t * shifted[-1])
    narrowed = kl_profile(Gaussian(PRIOR.mean, 0.2 * PRIOR.std), PRIOR, t).diff()
    assert bool((narrowed.diff() > 0).all())


def test_sampling_the_variables_one_by_one_gives_the_posterior_and_the_chain_rule_its_kl() -> None:
    """Monte-Carlo over 4000 paths of 7 variables: moments of z, and the sum of the steps' mean KL."""
    paths = 4000
    b = torch.zeros(paths, D, dtype=torch.float64)
    rest, total = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for variance in power_law_variances(7):
        before = VarianceShare(1 - rest, rest)
        step = VarianceShare(variance / rest, (rest - variance).clamp_min(0) / rest)
        prior = conditional_prior(PRIOR, before, b)
        target = partial_sum(conditional_posterior(POSTERIOR, PRIOR, before, b), prior, step)
        total += kl_divergence(target, Gaussian(torch.zeros_like(b), PRIOR.std * variance.sqrt())).mean()
        b = b + target.mean + target.std * torch.randn(paths, D, dtype=torch.float64, generator=GENERATOR)
        rest = (rest - variance).clamp_min(0)
    z = PRIOR.mean + b
    errors = (z.mean(0) - POSTERIOR.mean) / (POSTERIOR.std / paths**0.5)
    assert float(errors.abs().max()) < 4.5
    assert float((z.var(0) / POSTERIOR.variance - 1).abs().max()) < 0.12
    kl = kl_divergence(POSTERIOR, PRIOR)
    assert abs(float(total / kl) - 1) < 0.01


def test_weights_of_the_path_are_weights_of_the_sum() -> None:
    """q(a_1, a_2) / p(a_1, a_2) = q(b_2) / p(b_2)"""
    a = torch.randn(2, D, dtype=torch.float64, generator=GENERATOR) * PRIOR.std * 0.5
    first = VarianceShare(torch.tensor(0.2, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64))

    def log_ratio(target: Gaussian, prior_std: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        normal = torch.distributions.Normal
        return (normal(*target).log_prob(value) - normal(0.0, prior_std).log_prob(value)).sum()

    of_path = log_ratio(partial_sum(POSTERIOR, PRIOR, first), PRIOR.std * 0.2**0.5, a[0])
    pair = conditional_posterior(POSTERIOR, PRIOR, first, a[0]), conditional_prior(PRIOR, first, a[0])
    part = torch.tensor(0.17 / 0.8, dtype=torch.float64)
    of_path = of_path + log_ratio(partial_sum(*pair, VarianceShare(part, 1 - part)), PRIOR.std * 0.17**0.5, a[1])
    assert close(of_path, log_ratio(partial_sum(POSTERIOR, PRIOR, SHARE), PRIOR.std * 0.37**0.5, a.sum(0)))


def test_the_power_law_has_the_papers_shares() -> None:
    known = {
        2: {0: 0.57976, 1: 1.0},
        5: {0: 0.28202, 1: 0.52335, 2: 0.72424, 3: 0.88412},
        10: {0: 0.16351, 1: 0.31210, 2: 0.44615, 8: 0.96200},
        25: {0: 0.07954, 1: 0.15514, 2: 0.22689, 23: 0.99314},
        100: {0: 0.02673, 1: 0.05296, 2: 0.07868, 98: 0.99974},
    }
    for count, shares in known.items():
        revealed = power_law_variances(count).cumsum(0)
        assert abs(float(revealed[-1]) - 1) < 1e-12
        assert all(abs(float(revealed[k]) - share) < 1e-5 for k, share in shares.items())
    assert power_law_variances(1).tolist() == [1.0]
    assert power_law_variances(0).tolist() == []


def test_equal_kl_variances_give_every_variable_the_same_kl() -> None:
    for posterior, prior in (peer_target(), (POSTERIOR, PRIOR)):
        shares = equal_kl_variances(50, posterior, prior).cumsum(0)
        increments = kl_profile(posterior, prior, shares).diff(prepend=torch.zeros(1))
        assert float((increments / increments.mean() - 1).abs().max()) < 1e-6
