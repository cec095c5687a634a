"""Messages on the stack: exact inverses at their price, and numbers that no sender writes are refused."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from lightning_modules.coding.ans import AnsStack
from lightning_modules.errors import DamagedFile
from lightning_modules.rec.files.message_code import (
    MEANS,
    Richness,
    UniformCode,
    ZipfCode,
    count_tables,
    pop_message,
    push_messages,
)
from lightning_modules.rec.samplers.index_coder import Message
from lightning_modules.rec.samplers.schedule import EqualKL, PowerLaw, Schedule, SharedEqualKL

CODES = [UniformCode(num_candidates=32), ZipfCode(num_candidates=400, kl_per_variable=3.0)]


def messages(schedule: Schedule, shared: bool) -> tuple[list[Message], list[list[float]]]:
    """Three levels, the last one without any variable; numbers of variables are far from what is expected."""
    rng = np.random.default_rng(1)
    found, expected = [], []
    for blocks, mean in ((5, 30.0), (40, 0.5), (3, 0.01)):
        counts = torch.from_numpy(rng.poisson(3 * mean if mean > 0.1 else 0.0, blocks))
        choices = torch.from_numpy(rng.integers(0, schedule.num_choices, blocks))
        choices = torch.full_like(choices, int(choices[0])) if shared else choices
        choices = torch.where(counts > 0, choices, 0)
        found.append(Message(counts, choices, torch.from_numpy(rng.integers(0, 32, int(counts.sum())))))
        expected.append([mean] * blocks)
    return found, expected


@pytest.mark.parametrize("code", CODES, ids=["uniform", "zipf"])
@pytest.mark.parametrize(
    ("schedule", "shared"), [(SharedEqualKL(), True), (EqualKL(), False), (PowerLaw(exponent=-0.7), True)]
)
def test_levels_come_back_in_the_order_in_which_a_receiver_needs_them(
    schedule: Schedule, shared: bool, code: UniformCode
) -> None:
    sent, expected = messages(schedule, shared)
    stack = AnsStack()
    stack.push_uniform([77], 8)
    stack, costs = push_messages(stack, sent, expected, schedule, code)
    assert 8 * len(stack.to_bytes()) == pytest.approx(sum(map(sum, costs)) + 8, abs=100)
    richness = Richness()
    for message, mean in zip(sent, expected, strict=True):
        stack, found = pop_message(stack, mean, richness, schedule, code)
        for part in ("counts", "choices", "indices"):
            assert torch.equal(getattr(found, part), getattr(message, part)), part
    assert stack.pop_uniform(1, 8).tolist() == [77]
    assert stack.is_empty()


def test_a_number_costs_less_the_better_it_is_expected() -> None:
    def cost(expected: float) -> float:
        message = Message(torch.full((8,), 20), torch.zeros(8, dtype=torch.int64), torch.zeros(160, dtype=torch.int64))
        return push_messages(AnsStack(), [message], [[expected] * 8], PowerLaw(exponent=-0.7), CODES[0])[1][0].counts

    assert cost(20.0) < cost(5.0) < cost(0.5)
    assert cost(20.0) / 8 < 5.0


def test_a_picture_richer_than_expected_is_expected_to_go_on_so() -> None:
    richness = Richness()
    poor = richness.key(10.0)
    richness.see(100.0, 400)
    assert MEANS[richness.key(10.0)] == pytest.approx(4 * MEANS[poor], rel=0.2)


def test_tables_of_numbers_are_the_same_everywhere() -> None:
    assert zlib.crc32(count_tables().frequencies.astype("<i4").tobytes()) == 0x6AA29F4E


def test_more_variables_than_the_bytes_can_hold_are_refused_before_they_are_read() -> None:
    stack = AnsStack()
    stack.push([60000], [len(MEANS) - 1], count_tables())
    with pytest.raises(DamagedFile, match="end before the last symbol"):
        pop_message(stack, [MEANS[-1]], Richness(), PowerLaw(exponent=-0.7), CODES[0])


@pytest.mark.parametrize("count", [-1, 1 << 17])
def test_an_impossible_number_is_refused(count: int) -> None:
    stack = AnsStack()
    stack.push([count], [len(MEANS) - 1], count_tables())
    with pytest.raises(DamagedFile, match="impossible number of variables"):
        pop_message(stack, [MEANS[-1]], Richness(), PowerLaw(exponent=-0.7), CODES[0])
