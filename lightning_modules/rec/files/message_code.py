"""The messages of a file's levels on its stack: numbers of variables, schedules, indices.

Beam search and importance sampling leave indices uniform: n equal frequencies. Ordered random coding and the sampler
of Poisson arrivals favour small ones: P(i) in proportion to i^-lambda, lambda = 1 + 1 / (I + log2(e) / e + 1) for a
variable of I bits (Theis, Ahmed 2022, section 4), cut at n.

A block's number of variables has a negative binomial law around what the model expects of the block, times how much
richer the picture's blocks so far were than expected. Tables are made by portable arithmetic and integer
remainders, so they need not be stored: a decoder on another machine gets the same.
Receivers pop level by level: schedules, then for each block its number, then all indices.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.serial_stack import SerialStack
from lightning_modules.coding.tables import TOTAL, CodingTables
from lightning_modules.errors import damaged
from lightning_modules.exact.torch_functions import exp, ln
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
MAX_ENTRIES = 1 << 20
"""Longest table; larger indices travel as escapes."""


class IndexCode(Protocol):
    """A code for indices 0, 1, 2, ... What is pushed last is popped first."""

    def push(self, stack: AnsStack, indices: NDArray[np.int64]) -> None: ...

    def pop(self, stack: AnsStack, count: int) -> NDArray[np.int64]: ...

    def bits(self, indices: NDArray[np.int64]) -> float:
        """Return the bits that `push` spends on them."""


class TableCode:
    """Indices under one table."""

    def __init__(self, tables: CodingTables) -> None:
        self._tables = tables

    def push(self, stack: AnsStack, indices: NDArray[np.int64]) -> None:
        stack.push(indices, np.zeros_like(indices), self._tables)

    def pop(self, stack: AnsStack, count: int) -> NDArray[np.int64]:
        return stack.pop(np.zeros(count, dtype=np.int64), self._tables).astype(np.int64)

    def bits(self, indices: NDArray[np.int64]) -> float:
        return float(self._tables.bits(indices, np.zeros_like(indices)).sum())


class UniformCode(TableCode):
    """A code for equally likely indices below num_candidates."""

    def __init__(self, *, num_candidates: int) -> None:
        super().__init__(uniform_table(num_candidates))


class ZipfCode(TableCode):
    """A code that favours small indices. num_candidates: where the law is cut. kl_per_variable: nominal nats, for I."""

    def __init__(self, *, num_candidates: int, kl_per_variable: float) -> None:
        super().__init__(zipf_table(num_candidates, kl_per_variable))


@lru_cache(maxsize=64)
def uniform_table(num_candidates: int) -> CodingTables:
    """Return one table of equal frequencies, from 0."""
    _check(num_candidates)
    return one_table(portable_frequencies(np.ones(num_candidates)))


@lru_cache(maxsize=64)
def zipf_table(num_candidates: int, kl_per_variable: float) -> CodingTables:
    """Return one table of i^-lambda, i = 1 ... num_candidates, for the index i - 1."""
    _check(num_candidates)
    information = kl_per_variable / math.log(2.0)
    exponent = 1.0 + 1.0 / (information + math.log2(math.e) / math.e + 1.0)
    numbers = torch.arange(1, num_candidates + 1, dtype=torch.float64)
    return one_table(portable_frequencies(exp(-exponent * ln(numbers)).numpy()))


def _check(num_candidates: int) -> None:
    if not 1 <= num_candidates <= MAX_ENTRIES:
        raise ValueError(f"a code needs 1 ... {MAX_ENTRIES} indices, got {num_candidates}")


def portable_frequencies(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return frequencies in proportion to weights, largest first or nearly so, and one unit for the escape.

    Each entry has a unit, the others are dealt out rounding down, and what that leaves goes to the first entries.
    """
    spare = TOTAL - 1 - len(weights)
    total = math.fsum(weights.tolist())
    frequencies = 1 + np.floor(weights / total * spare).astype(np.int64)
    missing = TOTAL - 1 - int(frequencies.sum())
    frequencies += missing // len(weights)
    frequencies[: missing % len(weights)] += 1
    return np.append(frequencies, 1)


def one_table(frequencies: NDArray[np.int64]) -> CodingTables:
    """Return frequencies as one table, from 0."""
    return CodingTables(frequencies.astype(np.int32), np.array([0, len(frequencies)]), np.zeros(1, dtype=np.int64))


# ---- messages


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
    stack.expect_bits(sum(counts) * code.bits(np.zeros(1, dtype=np.int64)))
    indices = torch.from_numpy(code.pop(stack, sum(counts)))
    numbers = torch.tensor(counts, dtype=torch.int64)
    chosen = torch.where(numbers > 0, choices, 0) if used else torch.zeros_like(numbers)
    return stack, Message(numbers, chosen, indices)


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
