"""A stack of entropy-coded integers: asymmetric numeral systems over stored integer tables.

What is pushed last is popped first (Duda, "Asymmetric numeral systems", arXiv:1311.2540), and `pop` is the
exact inverse of `push`. Symbols are grouped by table, so that each table costs one call of the coder.
The order of symbols, the escape code and the word layout are specified in docs/format.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import constriction
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_modules.coding.tables import (
    ESCAPE_HEADER_BITS,
    INT32_MAX,
    INT32_MIN,
    CodingTables,
    IntegerArray,
    check_same_shape,
    check_symbols,
    floor_log2,
)
from lightning_modules.errors import CodingError, DamagedFile, damaged
from lightning_modules.records import Section

BOTTOM = 1 << 32
"""The coder's state when nothing is on the stack. A state below it means that more was popped than pushed:
without this floor the coder would go on inventing symbols, and a cut file would decode without complaint."""

COST_PER_BIT = 129 / 128
"""More than the symbols of a stack can cost, -log2(frequency / 2^24) each, per bit that the stack has grown.

Pushing an entry of frequency f turns the state s, which is at least 2^8 f by then, into at least
s + (2^24 - f) floor(s / f) >= s (1 + 255/256 (2^24 / f - 1)): it grows by at least 255/256 of the entry's cost.
Moving a word out of the state loses less than log2(257/256) of its 32 bits. Together: 1.0042."""

AnsCoder = constriction.stream.stack.AnsCoder


Categorical = constriction.stream.model.Categorical


Uniform = constriction.stream.model.Uniform

_ROWS = Categorical(perfect=False, lazy=True)
"""A model of its own for each symbol, with exactly its frequencies: see `_model`."""

CHUNK_BITS = 16


_WORD = np.dtype("<u4")

_models: WeakKeyDictionary[CodingTables, dict[int, Any]] = WeakKeyDictionary()


class AnsStack:
    """Last in, first out. An empty stack takes 8 bytes, and n bits pushed take about n / 8 more."""

    def __init__(self) -> None:
        self._coder = AnsCoder(np.array([0, 1], dtype=np.uint32))

    @classmethod
    def from_bytes(cls, data: bytes) -> AnsStack:
        """Undo `to_bytes`; DamagedFile for bytes that no stack writes."""
        if len(data) < 8 or len(data) % 4 or not any(data[-4:]):
            raise damaged(f"{len(data)} coded bytes do not end as an entropy-coded stream does")
        stack = cls()
        stack._coder = AnsCoder(np.frombuffer(data, dtype=_WORD).astype(np.uint32))
        return stack

    def to_bytes(self) -> bytes:
        """Return the stack as little-endian 32-bit words, top of the stack last."""
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype(_WORD).tobytes()

    def is_empty(self) -> bool:
        """Return whether exactly what was pushed has been popped."""
        return tuple(self._coder.pos()) == (0, BOTTOM)

    def expect_empty(self) -> None:
        """DamagedFile unless the stack is empty."""
        if not self.is_empty():
            words, _ = self._coder.pos()
            raise damaged(f"{4 * words + 8} coded bytes are left after the last symbol")

    def expect_bits(self, bits: float) -> None:
        """DamagedFile if symbols that cost `bits` cannot be on the stack, whatever they are.

        A bound that is proved, not guessed: it refuses nothing that `push` writes. It lets a reader compare what
        a header claims, times the `least_bits` of its tables, with the bytes that are there, and so refuse a
        claim before it allocates anything for it.
        """
        words, state = self._coder.pos()
        if bits > COST_PER_BIT * (32 * words + math.log2(state) - 32):
            raise damaged("the coded data end before the last symbol")

    def push(self, symbols: ArrayLike, indices: ArrayLike, tables: CodingTables) -> None:
        """Put N integers on the stack, symbol i under table `indices[i]`.

        symbols: (N,) integers within int32; those outside their table travel as escapes.
        """
        values, keys = check_symbols(symbols), tables.check_indices(indices)
        check_same_shape(values, keys)
        order = _grouping(keys, len(tables))
        values = values[order]
        entries = np.empty(len(values), dtype=np.int32)
        excesses = []
        groups = list(_groups(keys, tables))
        for k, start, stop in groups:
            below, above = tables.lowest[k], tables.highest[k]
            group = values[start:stop]
            escaped = (group < below) | (group > above)
            entries[start:stop] = np.where(escaped, above - below + 1, group - below)
            if escaped.any():
                excesses.append(_signed_excess(group[escaped], int(below), int(above)))
        if excesses:
            self._push_excess(np.concatenate(excesses))
        for k, start, stop in reversed(groups):
            self._coder.encode_reverse(entries[start:stop], _model(tables, k))

    def pop(self, indices: ArrayLike, tables: CodingTables) -> NDArray[np.int32]:
        """Take the N integers pushed last off the stack, given the tables they were pushed under.

        Raises DamagedFile when the stack holds less than that, or something no `push` writes.
        """
        keys = tables.check_indices(indices)
        order = _grouping(keys, len(tables))
        self.expect_bits(float(np.bincount(keys, minlength=len(tables)) @ tables.least_bits))
        entries = np.empty(len(keys), dtype=np.int64)
        escaped = np.zeros(len(keys), dtype=bool)
        for k, start, stop in _groups(keys, tables):
            group = self._coder.decode(_model(tables, k), stop - start)
            entries[start:stop] = group
            entries[start:stop] += tables.lowest[k]
            np.greater(entries[start:stop], tables.highest[k], out=escaped[start:stop])
        if escaped.any():
            found = keys[order][escaped]
            excess = self._pop_excess(len(found))
            entries[escaped] = np.where(excess > 0, tables.highest[found], tables.lowest[found]) + excess
        self._check_floor()
        if escaped.any() and not INT32_MIN <= entries.min() <= entries.max() <= INT32_MAX:
            raise damaged("a coded integer is out of range")
        symbols = np.empty(len(keys), dtype=np.int32)
        symbols[order] = entries
        return symbols

    def push_rows(self, entries: NDArray[np.int32], frequencies: NDArray[np.int32]) -> None:
        """Put N entries on the stack, entry i under row i of (N, L) frequencies, each >= 1 and of sum 2^24."""
        self._coder.encode_reverse(entries, _ROWS, (frequencies - 1).astype(np.float64))

    def pop_rows(self, frequencies: NDArray[np.int32]) -> NDArray[np.int32]:
        """Undo `push_rows` exactly, for any state of the stack; see `is_exhausted`."""
        entries: NDArray[np.int32] = self._coder.decode(_ROWS, (frequencies - 1).astype(np.float64))
        return entries

    def is_exhausted(self) -> bool:
        """Return whether more was popped than was there. It stays so: popping never raises the state."""
        words, state = self._coder.pos()
        return words == 0 and state < BOTTOM

    @property
    def num_words(self) -> int:
        """Whole words below the state."""
        words, _ = self._coder.pos()
        return int(words)

    @property
    def bits(self) -> float:
        """Return the bits on the stack: 32 for each word below the state, and the logarithm of that."""
        words, state = self._coder.pos()
        return 32.0 * words + math.log2(state)

    def push_uniform(self, values: ArrayLike, bits: int) -> None:
        """Put N integers in [0, 2^bits) on the stack, at `bits` bits each, 0 <= bits <= 32."""
        numbers = np.asarray(values, dtype=np.int64)
        if not 0 <= bits <= 32 or (numbers.size and not 0 <= numbers.min() <= numbers.max() < 1 << bits):
            raise ValueError(f"uniform values must lie in [0, 2^{bits}), and their bits in 0..32")
        for shift in reversed(range(0, bits, CHUNK_BITS)):
            width = min(CHUNK_BITS, bits - shift)
            chunk = (numbers >> shift) & ((1 << width) - 1)
            self._coder.encode_reverse(chunk.astype(np.int32), Uniform(1 << width))

    def pop_uniform(self, count: int, bits: int) -> NDArray[np.int64]:
        """Take `count` integers in [0, 2^bits) off the stack; DamagedFile when it holds less."""
        numbers = np.zeros(count, dtype=np.int64)
        for shift in range(0, bits, CHUNK_BITS):
            width = min(CHUNK_BITS, bits - shift)
            numbers |= self._coder.decode(Uniform(1 << width), count).astype(np.int64) << shift
        self._check_floor()
        return numbers

    def _push_excess(self, excess: NDArray[np.int64]) -> None:
        """Signed non-zero distances from the table: class and sign, then the bits below the leading one."""
        distance = np.abs(excess)
        classes = floor_log2(distance)
        for n in range(classes.max(), 0, -1):
            self.push_uniform(distance[classes == n] - (1 << n), n)
        self.push_uniform(2 * classes + (excess < 0), ESCAPE_HEADER_BITS)

    def _pop_excess(self, count: int) -> NDArray[np.int64]:
        header = self.pop_uniform(count, ESCAPE_HEADER_BITS)
        classes = header >> 1
        distance = np.left_shift(1, classes)
        for n in range(1, classes.max() + 1):
            chosen = classes == n
            distance[chosen] += self.pop_uniform(int(chosen.sum()), n)
        return np.where(header & 1, -distance, distance)

    def _check_floor(self) -> None:
        if self.is_exhausted():
            raise damaged("the coded data end before the last symbol")


def _model(tables: CodingTables, k: int) -> Any:
    """The coder's model of table k, with exactly its frequencies.

    The coder grants each of the L entries one unit and spreads the other 2^24 - L in proportion to the
    weights; with weights f - 1, which sum to that, each entry gets f without any rounding.
    """
    models = _models.setdefault(tables, {})
    if k not in models:
        frequencies = tables.frequencies[tables.starts[k] : tables.starts[k + 1]]
        models[k] = Categorical((frequencies - 1).astype(np.float64), perfect=False)
    return models[k]


def _grouping(keys: IntegerArray, num_tables: int) -> NDArray[np.int64]:
    """(N,) the order that sorts the symbols by table, equals kept in order (radix sort on narrow keys)."""
    if keys.ndim != 1:
        raise ValueError(f"symbols and indices must be vectors, got shape {keys.shape}")
    return np.argsort(keys.astype(np.min_scalar_type(num_tables - 1)), kind="stable")


def _groups(keys: IntegerArray, tables: CodingTables) -> Iterator[tuple[int, int, int]]:
    """(table, start, stop) of each table in use, in the order of `_grouping`."""
    counts = np.bincount(keys, minlength=len(tables))
    stops = np.cumsum(counts)
    for k in np.flatnonzero(counts):
        yield int(k), int(stops[k] - counts[k]), int(stops[k])


def _signed_excess(values: NDArray[np.int64], lowest: int, highest: int) -> NDArray[np.int64]:
    """How far out-of-range integers lie beyond their table's end: > 0 above, < 0 below."""
    return np.where(values > highest, values - highest, values - lowest)


class StackReader:
    """The stack of a file of one section, which must hold `least_bits` at least (see `AnsStack.expect_bits`).

    fault: what is wrong with the file, if anything so far; it is kept here, so that the others can go on.
    """

    def __init__(self, sections: Sequence[Section], least_bits: float) -> None:
        self.fault: CodingError | None = None
        try:
            if len(sections) != 1:
                raise damaged(f"a file of this codec has 1 section, this one {len(sections)}")
            self._content_crc = sections[0].content_crc
            self._stack = AnsStack.from_bytes(sections[0].payload)
            self._stack.expect_bits(least_bits)
        except CodingError as error:
            self.fault = error

    def pop(self, indices: NDArray[np.integer], tables: CodingTables) -> NDArray[np.int32]:
        """Pop as `AnsStack.pop` does; zeros when that fails."""
        try:
            return self._stack.pop(indices, tables)
        except CodingError as error:
            self.fault = error
            return np.zeros(len(indices), dtype=np.int32)

    def expect_content(self, content_crc: int) -> None:
        """Note a fault unless the stack is empty now, and what came out of it is what was coded."""
        try:
            self._stack.expect_empty()
            if content_crc != self._content_crc:
                raise DamagedFile(
                    "its latents decode to other values than were coded: it was altered, or this machine computes "
                    "other coding parameters than the one that wrote it (python run.py task=doctor tells)"
                )
        except CodingError as error:
            self.fault = error
