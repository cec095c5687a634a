"""The messages of a file's levels on its stack: numbers of variables, schedules, indices.

A block's number of variables has a negative binomial law around what the model expects of the block, times how much
richer the picture's blocks so far were than expected. Tables are made by + - * / alone, so they need not be stored.
Receivers pop level by level: schedules, then for each block its number, then all indices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.serial_stack import SerialStack
from lightning_modules.coding.tables import CodingTables
from lightning_modules.errors import damaged
from lightning_modules.rec.files.index_code import IndexCode, portable_frequencies
from lightning_modules.rec.samplers.index_coder import Message
from lightning_modules.rec.samplers.schedule import MAX_VARIABLES, Schedule

MEANS = tuple(2.0 ** (k - 8) * part for k in range(20) for part in (1.0, 1.1875, 1.4140625, 1.6796875))
"""Means of the tables: four to an octave, from 2^-8 to 2^12."""
BORDERS = tuple(0.5 * (MEANS[k] + MEANS[k + 1]) for k in range(len(MEANS) - 1))
SHAPE = 8.0
"""Blocks differ by 1 / sqrt(SHAPE) of their mean besides what counting does."""
LONGEST_TABLE = 1 << 14
REACH = 6.0
"""Means that a table extends to, at least; larger numbers travel as escapes."""
TRUST = 4.0
"""Variables as expected, that count as seen before the first block."""


class MessageBits(NamedTuple):
    """The cost of a level's message in bits."""

    schedules: float
    counts: float
    indices: float


class Richness:
    """Counts how many more variables than expected a picture's blocks have had so far, level after level."""

    def __init__(self) -> None:
        self.found = self.expected = TRUST

    def key(self, expected: float) -> int:
        """Return the number of the table for a block that is expected to have so many variables."""
        return bisect_right(BORDERS, expected * (self.found / self.expected))

    def see(self, expected: float, count: int) -> None:
        self.found += count
        self.expected += expected

    def keys(self, expected: Sequence[float], counts: Sequence[int]) -> list[int]:
        """Return the tables' numbers for blocks whose variables are known; they count as seen."""
        keys = []
        for mean, count in zip(expected, counts, strict=True):
            keys.append(self.key(mean))
            self.see(mean, count)
        return keys


def push_messages(
    stack: AnsStack,
    messages: Sequence[Message],
    expected: Sequence[Sequence[float]],
    schedule: Schedule,
    code: IndexCode,
) -> tuple[AnsStack, list[MessageBits]]:
    """Push all levels, so that the first is popped first; return the stack to go on with, and costs of each level.

    expected: variables of each block of each level.
    """
    richness = Richness()
    keys = [richness.keys(mean, one.counts.tolist()) for one, mean in zip(messages, expected, strict=True)]
    costs: list[MessageBits] = []
    for message, key in zip(reversed(messages), reversed(keys), strict=True):
        indices, counts = message.indices.numpy(), message.counts.numpy()
        code.push(stack, indices)
        serial = SerialStack(stack)
        serial.push(counts.tolist(), key, count_tables())
        stack = serial.to_stack()
        schedules = _push_schedules(stack, message, schedule)
        of_counts = float(count_tables().bits(counts, np.asarray(key)).sum())
        costs.append(MessageBits(schedules, of_counts, code.bits(indices)))
    return stack, costs[::-1]


def pop_message(
    stack: AnsStack, expected: Sequence[float], richness: Richness, schedule: Schedule, code: IndexCode
) -> tuple[AnsStack, Message]:
    """Pop one level. Raises `DamagedFile`."""
    used, choices = _pop_schedules(stack, len(expected), schedule)
    serial = SerialStack(stack)
    counts: list[int] = []
    for mean in expected:
        (count,) = serial.pop([richness.key(mean)], count_tables())
        if not 0 <= count <= MAX_VARIABLES:
            raise damaged("a block has an impossible number of variables")
        richness.see(mean, count)
        counts.append(count)
    stack = serial.to_stack()
    stack.expect_bits(sum(counts) * _least_index_bits(code))
    indices = torch.from_numpy(code.pop(stack, sum(counts)))
    numbers = torch.tensor(counts, dtype=torch.int64)
    chosen = torch.where(numbers > 0, choices, 0) if used else torch.zeros_like(numbers)
    return stack, Message(numbers, chosen, indices)


def _least_index_bits(code: IndexCode) -> float:
    return code.bits(np.zeros(1, dtype=np.int64))


def _push_schedules(stack: AnsStack, message: Message, schedule: Schedule) -> float:
    """Push one number for all blocks that have variables if it is the same, else one for each; return the cost."""
    bits = _choice_bits(schedule)
    if not bits:
        return 0.0
    used = message.choices[message.counts > 0].unique()
    if len(used) > 1:
        stack.push_uniform(message.choices.numpy(), bits)
        stack.push_uniform([1], 1)
        return 1.0 + bits * len(message.choices)
    stack.push_uniform(used.numpy() if len(used) else [0], bits)
    stack.push_uniform([0], 1)
    return 1.0 + bits


def _pop_schedules(stack: AnsStack, num_blocks: int, schedule: Schedule) -> tuple[bool, torch.Tensor]:
    bits = _choice_bits(schedule)
    if not bits:
        return False, torch.zeros(num_blocks, dtype=torch.int64)
    is_each = bool(stack.pop_uniform(1, 1)[0])
    choices = torch.from_numpy(stack.pop_uniform(num_blocks if is_each else 1, bits)).expand(num_blocks)
    if int(choices.max()) >= schedule.num_choices:
        raise damaged("a block has a schedule that does not exist")
    return True, choices


def _choice_bits(schedule: Schedule) -> int:
    return (schedule.num_choices - 1).bit_length()


@cache
def count_tables() -> CodingTables:
    """Return one negative binomial law for each of MEANS, from 0."""
    tables = [portable_frequencies(_negative_binomial(mean)) for mean in MEANS]
    starts = np.cumsum([0, *(len(table) for table in tables)])
    return CodingTables(np.concatenate(tables).astype(np.int32), starts, np.zeros(len(tables), dtype=np.int32))


def _negative_binomial(mean: float) -> NDArray[np.float64]:
    """Return P up to a factor: P(k + 1) = P(k) (k + SHAPE) / (k + 1) mean / (mean + SHAPE)."""
    length = min(LONGEST_TABLE, int(REACH * mean) + 16)
    share = mean / (mean + SHAPE)
    masses = [1.0]
    for k in range(length - 1):
        masses.append(masses[-1] * ((k + SHAPE) / (k + 1.0)) * share)
    return np.array(masses)
