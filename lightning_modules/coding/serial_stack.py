"""The stack of `AnsStack` for symbols that come few at a time, each under another of many tables.

`AnsStack` groups an array by table, and pays for each group; here each symbol is one step, in the order of the array,
an escape's bits right after its entry. The words are the same: a stack can be begun by one class and gone on with by
the other. docs/format.md, section 3.5.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from lightning_modules.coding.ans import BOTTOM, CHUNK_BITS, AnsStack
from lightning_modules.coding.tables import (
    ESCAPE_HEADER_BITS,
    INT32_MAX,
    INT32_MIN,
    PRECISION,
    CodingTables,
)
from lightning_modules.errors import damaged

LOW_32 = (1 << 32) - 1
LOW_24 = (1 << PRECISION) - 1

Rows = dict[int, tuple[list[int], int]]
"""Of the tables in use: where their entries begin, with 2^24 at the end, and the integer of the first."""

_rows: WeakKeyDictionary[CodingTables, Rows] = WeakKeyDictionary()


class SerialStack:
    """Last in, first out; see `AnsStack`."""

    def __init__(self, stack: AnsStack | None = None) -> None:
        words = np.frombuffer((stack or AnsStack()).to_bytes(), dtype="<u4").tolist()
        self._state = words.pop() << 32 | words.pop()
        self._words: list[int] = words

    def to_stack(self) -> AnsStack:
        words = [*self._words, self._state & LOW_32, self._state >> 32]
        return AnsStack.from_bytes(np.array(words, dtype="<u4").tobytes())

    def push(self, symbols: Sequence[int], keys: Sequence[int], tables: CodingTables) -> None:
        """Put integers within int32 on the stack, the last one first, each under the table of its key."""
        rows = _rows.setdefault(tables, {})
        for symbol, key in zip(reversed(symbols), reversed(keys), strict=True):
            starts, lowest = rows.get(key) or _add(rows, tables, key)
            entry, escape = symbol - lowest, len(starts) - 2
            if not 0 <= entry < escape:
                self._push_excess(entry if entry < 0 else entry - escape + 1)
                entry = escape
            self._push(starts[entry], starts[entry + 1] - starts[entry])

    def pop(self, keys: Sequence[int], tables: CodingTables) -> list[int]:
        """Undo `push`. Raises `DamagedFile` when the stack holds less, or what no `push` writes."""
        rows = _rows.setdefault(tables, {})
        state, words, found = self._state, self._words, []
        for key in keys:
            starts, lowest = rows.get(key) or _add(rows, tables, key)
            place = state & LOW_24
            entry = bisect_right(starts, place) - 1
            start = starts[entry]
            state = (state >> PRECISION) * (starts[entry + 1] - start) + place - start
            if state < BOTTOM and words:
                state = state << 32 | words.pop()
            if entry == len(starts) - 2:
                self._state = state
                entry = self._pop_excess(entry)
                state = self._state
            found.append(entry + lowest)
        self._state = state
        if state < BOTTOM:
            raise damaged("the coded data end before the last symbol")
        if found and not INT32_MIN <= min(found) <= max(found) <= INT32_MAX:
            raise damaged("a coded integer is out of range")
        return found

    def _push(self, start: int, frequency: int) -> None:
        if self._state >> (64 - PRECISION) >= frequency:
            self._words.append(self._state & LOW_32)
            self._state >>= 32
        quotient, rest = divmod(self._state, frequency)
        self._state = (quotient << PRECISION) + start + rest

    def _push_excess(self, excess: int) -> None:
        """Non-zero distance from the table, below it if negative."""
        size = abs(excess).bit_length() - 1
        self._push_uniform(abs(excess) - (1 << size), size)
        self._push_uniform(2 * size + (excess < 0), ESCAPE_HEADER_BITS)

    def _pop_excess(self, escape: int) -> int:
        """The entry that an integer outside the table would have."""
        size, below = divmod(self._pop_uniform(ESCAPE_HEADER_BITS), 2)
        distance = (1 << size) + self._pop_uniform(size)
        return -distance if below else escape - 1 + distance

    def _push_uniform(self, value: int, bits: int) -> None:
        for shift in reversed(range(0, bits, CHUNK_BITS)):
            width = min(CHUNK_BITS, bits - shift)
            chunk = value >> shift & ((1 << width) - 1)
            self._push(chunk << (PRECISION - width), 1 << (PRECISION - width))

    def _pop_uniform(self, bits: int) -> int:
        value = 0
        for shift in range(0, bits, CHUNK_BITS):
            width = min(CHUNK_BITS, bits - shift)
            each, place = PRECISION - width, self._state & LOW_24
            value |= place >> each << shift
            self._state = (self._state >> PRECISION << each) + (place & ((1 << each) - 1))
            if self._state < BOTTOM and self._words:
                self._state = self._state << 32 | self._words.pop()
        return value


def _add(rows: Rows, tables: CodingTables, key: int) -> tuple[list[int], int]:
    frequencies = tables.frequencies[tables.starts[key] : tables.starts[key + 1]]
    starts: list[int] = np.concatenate([[0], np.cumsum(frequencies, dtype=np.int64)]).tolist()
    rows[key] = starts, int(tables.lowest[key])
    return rows[key]
