"""Symbol by symbol, a stack takes what its tables say, and is the stack that arrays are coded with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.serial_stack import SerialStack
from lightning_modules.coding.tables import INT32_MAX, INT32_MIN, SCALES, gaussian_tables
from lightning_modules.errors import DamagedFile

TABLES = gaussian_tables(SCALES[::4])

coded = st.lists(
    st.tuples(st.integers(INT32_MIN, INT32_MAX) | st.integers(-9, 9), st.integers(0, len(TABLES) - 1)), max_size=40
)


def pushed(symbols: list[int], keys: list[int]) -> AnsStack:
    stack = SerialStack()
    stack.push(symbols, keys, TABLES)
    return stack.to_stack()


@settings(deadline=None)
@given(coded)
def test_what_is_pushed_is_popped_and_nothing_is_left(coded: list[tuple[int, int]]) -> None:
    symbols, keys = [symbol for symbol, _ in coded], [key for _, key in coded]
    stack = SerialStack(AnsStack.from_bytes(pushed(symbols, keys).to_bytes()))
    assert stack.pop(keys, TABLES) == symbols
    assert stack.to_stack().is_empty()


def test_symbols_cost_what_their_tables_say() -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, len(TABLES), 20_000)
    symbols = np.rint(rng.normal(size=len(keys)) * SCALES[::4][keys]).astype(int)
    symbols[::500] += 100_000
    bits = 8 * len(pushed(symbols.tolist(), keys.tolist()).to_bytes())
    assert 32 < bits - TABLES.bits(symbols, keys).sum() < 64 + 1e-4 * bits


def test_a_symbol_without_escape_is_coded_as_an_array_of_one_is() -> None:
    for symbol, key in [(0, 0), (-3, 7), (1 << 20, 3), (INT32_MIN, 15), (INT32_MAX, 1)]:
        array = AnsStack()
        array.push([symbol], [key], TABLES)
        assert pushed([symbol], [key]).to_bytes() == array.to_bytes()


def test_arrays_and_single_symbols_share_a_stack() -> None:
    stack = pushed([5, -2, 70_000], [3, 1, 0])
    stack.push([1, 2], [0, 2], TABLES)
    assert stack.pop([0, 2], TABLES).tolist() == [1, 2]
    assert SerialStack(stack).pop([3, 1, 0], TABLES) == [5, -2, 70_000]


def test_a_stack_that_ends_early_is_damaged() -> None:
    stack = SerialStack(pushed([3, -1], [9, 9]))
    with pytest.raises(DamagedFile, match="end before the last symbol"):
        stack.pop([9] * 40, TABLES)


def test_an_integer_beyond_32_bits_is_damaged() -> None:
    stack = SerialStack()
    escape = int(TABLES.starts[1] - TABLES.starts[0] - 1)
    start = int(TABLES.frequencies[: TABLES.starts[1] - 1].sum())
    stack._push_excess(INT32_MAX + 5)
    stack._push(start, int(TABLES.frequencies[escape]))
    with pytest.raises(DamagedFile, match="out of range"):
        SerialStack(stack.to_stack()).pop([0], TABLES)
