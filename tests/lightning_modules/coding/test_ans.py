"""The ANS stack: exact inverse, coded length equal to the entropy, nothing accepted that was not pushed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.tables import TOTAL, CodingTables, gaussian_tables, nearest_scale_index
from lightning_modules.errors import DamagedFile

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)


@pytest.fixture(scope="module")
def gaussians() -> CodingTables:
    return gaussian_tables()


def _random_tables(rng: np.random.Generator, num_tables: int) -> CodingTables:
    """Tables of 2 to 300 entries, from flat to one entry with nearly all the mass."""
    lengths = rng.integers(2, 300, num_tables)
    frequencies = []
    for length in lengths:
        weights = rng.random(length) ** rng.integers(1, 40)
        table = 1 + np.floor(weights / weights.sum() * (TOTAL - length)).astype(np.int64)
        table[rng.integers(length)] += TOTAL - table.sum()
        frequencies.append(table)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return CodingTables(np.concatenate(frequencies), starts, rng.integers(-400, 400, num_tables).astype(np.int32))


def _latents(rng: np.random.Generator, count: int, tables: CodingTables) -> tuple[np.ndarray, np.ndarray]:
    """Symbols drawn from their Gaussians, with the scales of a typical picture."""
    scales = np.exp(rng.normal(-1.5, 1.2, count))
    indices = nearest_scale_index(torch.from_numpy(scales)).numpy()
    return np.rint(rng.normal(0, scales)).astype(np.int32), indices


def _reference_push(words: list[int], state: int, start: int, frequency: int) -> int:
    """One step of ANS in unbounded integers; returns the state."""
    if state >> 40 >= frequency:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return (state // frequency << 24) | (start + state % frequency)


@pytest.mark.parametrize("seed", range(8))
def test_the_coder_uses_exactly_the_stored_frequencies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tables = _random_tables(rng, 1)
    length = len(tables.frequencies)
    entries = np.concatenate([np.arange(length - 1), rng.integers(0, length - 1, 200)])
    stack = AnsStack()
    stack.push(entries + tables.lowest[0], np.zeros(len(entries), int), tables)
    starts = np.cumsum(tables.frequencies) - tables.frequencies
    words: list[int] = []
    state = 1 << 32
    for entry in entries[::-1]:
        state = _reference_push(words, state, int(starts[entry]), int(tables.frequencies[entry]))
    expected = np.array([*words, state & 0xFFFFFFFF, state >> 32], dtype="<u4")
    assert stack.to_bytes() == expected.tobytes()


def test_known_symbols_give_known_words() -> None:
    """A change of the coder, or of the library below it, that would orphan existing files fails here."""
    frequencies = [1 << 22, 1 << 23, (1 << 22) - 1, 1, 15 << 20, (1 << 20) - 1, 1]
    tables = CodingTables(np.array(frequencies), np.array([0, 4, 7]), np.array([-1, 0]))
    stack = AnsStack()
    stack.push([0, 1, -1, 0, 9, 0, -7, 1], [0, 1, 0, 0, 0, 1, 1, 1], tables)
    assert stack.to_bytes().hex() == "51c2f851432ff244ffff7ffc22220000"


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.data())
def test_popping_returns_what_was_pushed_last_first(seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    tables = _random_tables(rng, data.draw(st.integers(1, 5)))
    pushed = []
    stack = AnsStack()
    for symbols in data.draw(st.lists(st.lists(INT32 | st.integers(-500, 800), max_size=40), max_size=4)):
        indices = rng.integers(0, len(tables), len(symbols))
        stack.push(np.array(symbols, dtype=np.int64), indices, tables)
        pushed.append((symbols, indices))
    stack = AnsStack.from_bytes(stack.to_bytes())
    for symbols, indices in reversed(pushed):
        assert stack.pop(indices, tables).tolist() == symbols
    stack.expect_empty()


@pytest.mark.parametrize("count", [0, 1, 10, 1000, 100_000])
def test_coded_length_is_the_sum_of_bits(count: int, gaussians: CodingTables) -> None:
    symbols, indices = _latents(np.random.default_rng(count), count, gaussians)
    stack = AnsStack()
    stack.push(symbols, indices, gaussians)
    bits = gaussians.bits(symbols, indices).sum()
    assert 8 * len(stack.to_bytes()) <= 1.0005 * bits + 8 * 16
    assert 8 * len(stack.to_bytes()) >= bits


def test_coded_length_is_the_sum_of_bits_when_a_third_are_escapes(gaussians: CodingTables) -> None:
    rng = np.random.default_rng(3)
    symbols, indices = _latents(rng, 30_000, gaussians)
    symbols[::3] += rng.integers(-(10**6), 10**6, 10_000).astype(np.int32) >> rng.integers(0, 20, 10_000)
    stack = AnsStack()
    stack.push(symbols, indices, gaussians)
    bits = gaussians.bits(symbols, indices).sum()
    assert bits <= 8 * len(stack.to_bytes()) <= 1.0005 * bits + 8 * 16
    np.testing.assert_array_equal(stack.pop(indices, gaussians), symbols)
    assert stack.is_empty()


def test_order_and_kind_of_integers_do_not_matter_to_the_bytes(gaussians: CodingTables) -> None:
    symbols, indices = _latents(np.random.default_rng(5), 3000, gaussians)
    coded = set()
    for symbol_type, index_type in (("i4", "u1"), ("i8", "i8"), ("i2", "u8")):
        stack = AnsStack()
        stack.push(symbols.astype(symbol_type), indices.astype(index_type), gaussians)
        coded.add(stack.to_bytes())
    assert len(coded) == 1


@settings(deadline=None)
@given(st.integers(0, 32), st.lists(st.integers(0, (1 << 32) - 1), max_size=20))
def test_uniform_numbers_return_and_cost_their_bits(bits: int, numbers: list[int]) -> None:
    values = np.array([number & ((1 << bits) - 1) for number in numbers], dtype=np.int64)
    stack = AnsStack()
    stack.push_uniform(values, bits)
    assert 8 * len(stack.to_bytes()) <= bits * len(values) + 64
    np.testing.assert_array_equal(stack.pop_uniform(len(values), bits), values)
    assert stack.is_empty()


def test_every_truncation_is_noticed(gaussians: CodingTables) -> None:
    symbols, indices = _latents(np.random.default_rng(7), 3000, gaussians)
    stack = AnsStack()
    stack.push(symbols, indices, gaussians)
    data = stack.to_bytes()
    assert len(data) > 200
    for length in range(len(data)):
        with pytest.raises(DamagedFile, match="damaged"):
            _decode(data[:length], indices, gaussians)
        with pytest.raises(DamagedFile, match="damaged"):
            _decode(data[len(data) - length :], indices, gaussians)


def test_more_symbols_than_were_pushed_are_noticed(gaussians: CodingTables) -> None:
    stack = AnsStack()
    stack.push(np.zeros(10, int), np.full(10, 20), gaussians)
    with pytest.raises(DamagedFile, match="end before the last symbol"):
        stack.pop(np.full(11, 20), gaussians)


def test_fewer_symbols_than_were_pushed_are_noticed(gaussians: CodingTables) -> None:
    stack = AnsStack()
    stack.push(np.zeros(10, int), np.full(10, 20), gaussians)
    stack.pop(np.full(9, 20), gaussians)
    assert not stack.is_empty()
    with pytest.raises(DamagedFile, match="left after the last symbol"):
        stack.expect_empty()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4000), st.booleans())
def test_a_stack_is_never_refused_for_what_was_pushed(seed: int, count: int, cheapest: bool) -> None:
    """Cheapest entries, down to 2^-23 bits, are where the coder's own rounding weighs most."""
    rng = np.random.default_rng(seed)
    tables = _random_tables(rng, 5)
    indices = rng.integers(0, 5, count)
    lengths = np.diff(tables.starts) - 1
    candidates = [tables.lowest[k] + np.arange(lengths[k]) for k in range(5)]
    best = [c[np.argmin(tables.bits(c, np.full(len(c), k)))] for k, c in enumerate(candidates)]
    symbols = np.array([best[k] if cheapest else rng.choice(candidates[k]) for k in indices])
    stack = AnsStack.from_bytes(AnsStack().to_bytes() if seed % 2 else rng.bytes(16) + b"\1" * 4)
    stack.push(symbols, indices, tables)
    stack.expect_bits(tables.bits(symbols, indices).sum())
    np.testing.assert_array_equal(stack.pop(indices, tables), symbols)


@pytest.mark.parametrize("free", [1, 2, 100, 1 << 20])
def test_a_stack_of_nearly_free_symbols_is_never_refused(free: int) -> None:
    tables = CodingTables(np.array([TOTAL - free, free]), np.array([0, 2]), np.array([0]))
    symbols = np.zeros(200_000, dtype=int)
    stack = AnsStack()
    for _ in range(5):
        stack.push(symbols, symbols, tables)
    for _ in range(5):
        np.testing.assert_array_equal(stack.pop(symbols, tables), symbols)
    stack.expect_empty()


def test_a_claim_a_hundredth_beyond_what_was_pushed_is_refused(gaussians: CodingTables) -> None:
    symbols, indices = _latents(np.random.default_rng(9), 20_000, gaussians)
    stack = AnsStack()
    stack.push(symbols, indices, gaussians)
    bits = gaussians.bits(symbols, indices).sum()
    stack.expect_bits(bits)
    with pytest.raises(DamagedFile, match="end before the last symbol"):
        stack.expect_bits(1.01 * bits)


def test_a_claim_of_symbols_that_cannot_be_there_is_refused_before_they_are_decoded(gaussians: CodingTables) -> None:
    symbols, indices = _latents(np.random.default_rng(10), 100, gaussians)
    stack = AnsStack()
    stack.push(symbols, indices, gaussians)
    before = stack.to_bytes()
    with pytest.raises(DamagedFile, match="end before the last symbol"):
        stack.pop(np.full(10_000, 40), gaussians)
    assert stack.to_bytes() == before


def test_an_empty_stack_gives_no_uniform_numbers() -> None:
    with pytest.raises(DamagedFile, match="end before"):
        AnsStack().pop_uniform(1, 8)


def test_one_wrong_table_index_is_noticed(gaussians: CodingTables) -> None:
    symbols, indices = _latents(np.random.default_rng(8), 2000, gaussians)
    stack = AnsStack()
    stack.push(symbols, indices, gaussians)
    data = stack.to_bytes()
    for position in range(0, 2000, 20):
        wrong = indices.copy()
        wrong[position] = (wrong[position] + 9) % 64
        with pytest.raises(DamagedFile, match="damaged"):
            _decode(data, wrong, gaussians)


@pytest.mark.parametrize(
    "data",
    [b"", b"\1", b"\1\0\0\0", b"\0" * 8, b"\1" * 9, b"\1" * 11, b"\1" * 8 + b"\0" * 4],
    ids=["empty", "one byte", "one word", "zeros", "9 bytes", "11 bytes", "zero word last"],
)
def test_bytes_that_no_stack_writes_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedFile, match="do not end as an entropy-coded stream"):
        AnsStack.from_bytes(data)


@pytest.mark.fuzz
def test_random_bytes_raise_damage_or_decode_to_int32(gaussians: CodingTables) -> None:
    rng = np.random.default_rng(11)
    tables = _random_tables(rng, 20)
    refused = 0
    for _ in range(500):
        data = rng.integers(0, 256, int(rng.integers(0, 400)), dtype=np.uint8).tobytes()
        chosen = tables if rng.random() < 0.5 else gaussians
        indices = rng.integers(0, len(chosen), 300)
        try:
            symbols = _decode(data, indices, chosen)
        except DamagedFile:
            refused += 1
        else:
            assert symbols.shape == (300,)
    assert refused == 500


def test_an_escape_beyond_int32_is_damage() -> None:
    frequencies, starts = np.array([TOTAL - 1, 1]), np.array([0, 2])
    low, high = (CodingTables(frequencies, starts, np.array([lowest])) for lowest in (-(1 << 31), 5))
    stack = AnsStack()
    stack.push([(1 << 31) - 1], [0], low)
    with pytest.raises(DamagedFile, match="out of range"):
        stack.pop([0], high)


def test_refused_arguments_leave_the_stack_as_it_was(gaussians: CodingTables) -> None:
    stack = AnsStack()
    stack.push([1, 2], [30, 31], gaussians)
    before = stack.to_bytes()
    for symbols, indices in (([1], [64]), ([1 << 31], [0]), ([1, 2], [0]), ([[1]], [[0]]), ([0.5], [0])):
        with pytest.raises(ValueError, match=r"allowed|shape|integers"):
            stack.push(symbols, indices, gaussians)
    for values, bits in (([4], 2), ([-1], 2), ([0], 33), ([0], -1)):
        with pytest.raises(ValueError, match="uniform"):
            stack.push_uniform(values, bits)
    assert stack.to_bytes() == before


def _decode(data: bytes, indices: np.ndarray, tables: CodingTables) -> np.ndarray:
    stack = AnsStack.from_bytes(data)
    symbols = stack.pop(indices, tables)
    stack.expect_empty()
    return symbols
