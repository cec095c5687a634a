"""Values of the learning-rate schedules."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.training.learning_rate import Schedule, constant, cosine, stepwise


@pytest.mark.parametrize(("step", "factor"), [(0, 0.2), (1, 0.4), (3, 0.8), (4, 1.0), (5, 1.0), (10**6, 1.0)])
def test_warm_up_rises_linearly_to_one_at_its_last_step(step: int, factor: float) -> None:
    assert constant(warmup=4)(step) == pytest.approx(factor)


def test_without_warm_up_the_rate_is_full_from_the_first_step() -> None:
    assert constant(warmup=0)(0) == 1.0
    assert cosine(warmup=0, total=100, final=0.1)(0) == 1.0


@pytest.mark.parametrize(("step", "factor"), [(9, 1.0), (10, 0.1), (19, 0.1), (20, 0.01), (10**6, 0.01)])
def test_each_milestone_multiplies_the_rate(step: int, factor: float) -> None:
    assert stepwise(warmup=2, milestones=[10, 20], factor=0.1)(step) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 1 / 11), (10, 1.0), (60, 0.55), (110, 0.1), (35, 0.1 + 0.9 * (2 + 2**0.5) / 4), (10**6, 0.1)],
)
def test_half_a_cosine_falls_from_one_to_the_final_factor(step: int, factor: float) -> None:
    assert cosine(warmup=10, total=110, final=0.1)(step) == pytest.approx(factor)


@pytest.mark.parametrize(
    "schedule",
    [
        constant(warmup=50),
        stepwise(warmup=50, milestones=[200], factor=0.1),
        cosine(warmup=50, total=300, final=0.01),
    ],
)
def test_every_step_is_taken_and_none_exceeds_the_base_rate(schedule: Schedule) -> None:
    factors = [schedule(step) for step in range(500)]
    peak = factors.index(max(factors))
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_a_schedule_scales_every_group_by_the_same_factor() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [weights[0]], "lr": 1.0}, {"params": [weights[1]], "lr": 0.01}])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, constant(warmup=3))
    rates = []
    for _ in range(4):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    expected = [[0.25, 0.0025], [0.5, 0.005], [0.75, 0.0075], [1.0, 0.01]]
    assert rates == [pytest.approx(pair) for pair in expected]
