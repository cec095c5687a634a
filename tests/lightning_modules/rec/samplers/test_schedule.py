"""Schedules: integers that files depend on, near equal KL whatever the target, and the same for every caller."""

from __future__ import annotations

import zlib
from itertools import pairwise

import pytest
import torch

from lightning_modules.rec.samplers.auxiliary_variables import Targets, stack_targets
from lightning_modules.rec.samplers.schedule import DEVIATION_BITS, EqualKL, PowerLaw, Schedule, SharedEqualKL
from lightning_modules.rec.samplers.variable_batch import Variables
from tests.lightning_modules.rec.peer_target import peer_target

POWER_LAW = PowerLaw(exponent=-0.7864636765648174)


def increments(targets: Targets, schedule: Schedule, num_variables: int) -> torch.Tensor:
    """(K,) nats of each variable of the first block."""
    counts = torch.full((len(targets.mean),), num_variables)
    scales = schedule.scales(num_variables, int(schedule.choose(targets, counts)[0]))
    shares = Variables.stacked(torch.zeros(1, dtype=torch.int64), [scales]).shares
    return targets.kl_profile(shares.revealed[0])[0].diff(prepend=torch.zeros(1))


def target_of(kind: str) -> Targets:
    """1000 dimensions, 300 nats."""
    mixed, _ = peer_target()
    if kind == "mixed mean and scale":
        return stack_targets([mixed.mean], [mixed.variance])
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(1000, dtype=torch.float64, generator=generator)
    ones = torch.ones_like(drawn)
    if kind == "scale only":
        return stack_targets([0 * ones], [torch.exp(-1.46 * drawn.abs())])
    if kind == "sparse":
        active = torch.arange(1000) < 50
        std = torch.where(active, 0.1 * ones, ones)
        left = 300 - float((-std.log() + std**2 / 2 - 0.5).sum())
        mean = torch.where(active, drawn, 0 * drawn)
        return stack_targets([mean * (2 * left / mean.square().sum()).sqrt()], [std**2])
    return stack_targets([drawn * (600 / drawn.square().sum()).sqrt()], [ones])


@pytest.mark.parametrize(
    ("kind", "most"),
    [("mixed mean and scale", 3.15), ("mean shift only", 3.01), ("scale only", 3.6), ("sparse", 3.3)],
)
def test_64_choices_come_near_equal_kl_where_the_power_law_does_not(kind: str, most: float) -> None:
    targets = target_of(kind)
    assert abs(float(targets.kl()) - 300) < 1.5
    assert float(increments(targets, EqualKL(), 100).max()) < most
    assert float(increments(targets, POWER_LAW, 100).max()) > 4.4


@pytest.mark.parametrize(
    ("schedule", "count", "choice", "crc"),
    [
        (POWER_LAW, 100, 0, 0xFE6DCA18),
        (EqualKL(), 100, 9, 0xA87EBA82),
        (EqualKL(), 57, 63, 0x848F26B2),
        (EqualKL(), 3000, 20, 0x2BE27AE3),
    ],
)
def test_scales_are_the_integers_of_the_format_and_their_squares_sum_to_one(
    schedule: Schedule, count: int, choice: int, crc: int
) -> None:
    scales = schedule.scales(count, choice)
    assert zlib.crc32(scales.numpy().astype("<i8").tobytes()) == crc
    assert abs(float((scales.double() / 2**DEVIATION_BITS).square().sum()) - 1) < 1e-6


@pytest.mark.parametrize("choice", range(64))
def test_every_choice_reveals_the_share_that_its_law_says(choice: int) -> None:
    row, column = divmod(choice, 8)
    weight, r = row / 7, (0.7, 0.4, 0.2, 0.1, 0.03, 0.01, 1e-3, 1e-4)[column]
    if choice in range(1, 8):
        weight, r = 1.0, 10.0 ** -(4 + choice)
    shares = Variables.stacked(torch.zeros(1, dtype=torch.int64), [EqualKL().scales(16, choice)]).shares
    t, rest = shares.revealed[0, :-1], shares.rest[0, :-1]

    def g(t: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        return -torch.log(rest + t * r) - t * (1 - r)

    one = torch.ones(1, dtype=torch.float64)
    law = (1 - weight) * t + weight * g(t, rest) / g(one, 0 * one)
    assert torch.allclose(law, torch.arange(1, 16, dtype=torch.float64) / 16, atol=3e-5)


def test_shares_are_exact_sums_that_leave_exactly_nothing() -> None:
    variables = Variables.stacked(torch.zeros(2, dtype=torch.int64), [EqualKL().scales(40, 63), EqualKL().scales(3, 0)])
    rest = variables.shares.rest
    assert bool((rest >= 0).all())
    assert rest[0, 39] == 0
    assert rest[1, 2] == 0
    assert bool((rest[0, :39] > 0).all())


def test_blocks_of_one_call_may_share_the_choice() -> None:
    targets = [target_of(kind) for kind in ("scale only", "mean shift only", "sparse")]
    together = stack_targets([part.mean[0] for part in targets], [part.ratio[0] for part in targets])
    counts = torch.tensor([100, 100, 100])
    shared = SharedEqualKL().choose(together, counts).tolist()
    assert len(set(shared)) == 1
    assert len(set(EqualKL().choose(together, counts).tolist())) > 1


def test_choices_do_not_depend_on_what_else_is_in_the_batch() -> None:
    targets = [target_of(kind) for kind in ("scale only", "mean shift only", "sparse")]
    short = stack_targets([targets[1].mean[0, :37]], [targets[1].ratio[0, :37]])
    means = [*(part.mean[0] for part in targets), short.mean[0]]
    together = stack_targets(means, [*(part.ratio[0] for part in targets), short.ratio[0]])
    counts = torch.tensor([100, 100, 100, 5])
    alone = [int(EqualKL().choose(part, counts[k : k + 1])) for k, part in enumerate([*targets, short])]
    assert EqualKL().choose(together, counts).tolist() == alone


def test_a_block_that_equals_its_prior_gets_a_schedule_too() -> None:
    nothing = stack_targets([torch.zeros(5, dtype=torch.float64)], [torch.ones(5, dtype=torch.float64)])
    assert 0 <= int(EqualKL().choose(nothing, torch.tensor([0]))) < 64


def test_scales_rise_or_fall_without_jumps() -> None:
    for choice in range(64):
        scales = EqualKL().scales(200, choice).tolist()
        assert all(after <= before * 1.0001 for before, after in pairwise(scales))
