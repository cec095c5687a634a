"""Integer tables: exact sums, the cheapest rounding, honest costs."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightning_modules.coding.tables import (
    SCALES,
    TOTAL,
    CodingTables,
    floor_log2,
    frequencies_from_pmf,
    gaussian_tables,
    nearest_scale_index,
    scale_thresholds,
    tables_from_cdf,
    tables_from_pmf,
    total_bits,
)

PMFS = arrays(np.float64, st.integers(2, 300), elements=st.floats(0, 1)).filter(lambda p: p.sum() > 0)


@pytest.fixture(scope="module")
def gaussians() -> CodingTables:
    return gaussian_tables()


def _table(tables: CodingTables, k: int) -> np.ndarray:
    return tables.frequencies[tables.starts[k] : tables.starts[k + 1]]


@settings(deadline=None, max_examples=60)
@given(PMFS)
def test_no_unit_moved_between_two_entries_makes_a_table_cheaper(weights: np.ndarray) -> None:
    pmf = weights / weights.sum()
    frequencies = frequencies_from_pmf(pmf).astype(np.float64)
    assert frequencies.sum() == TOTAL
    assert frequencies.min() >= 1
    gain = pmf * np.log1p(1 / frequencies)
    removable = frequencies > 1
    loss = -pmf[removable] * np.log1p(-1 / frequencies[removable])
    assert gain.max() <= loss.min() * (1 + 1e-9)


def test_a_certain_symbol_leaves_one_unit_to_each_impossible_one() -> None:
    pmf = np.zeros(1000)
    pmf[7] = 1.0
    frequencies = frequencies_from_pmf(pmf)
    assert frequencies[7] == TOTAL - 999
    assert np.delete(frequencies, 7).tolist() == [1] * 999


def test_gaussian_tables_integrate_the_density_over_unit_intervals(gaussians: CodingTables) -> None:
    for k in (0, 20, 40, 63):
        normal = NormalDist(0, SCALES[k])
        for symbol in range(0, int(gaussians.highest[k]) + 1, max(1, int(SCALES[k] / 4))):
            exact = normal.cdf(-symbol + 0.5) - normal.cdf(-symbol - 0.5)
            frequency = _table(gaussians, k)[symbol - gaussians.lowest[k]]
            assert abs(frequency - exact * TOTAL) <= 2.5 + 1e-4 * exact * TOTAL


def test_gaussian_tables_cost_the_entropy_of_their_gaussian(gaussians: CodingTables) -> None:
    for k in range(len(SCALES)):
        reach = int(10 * SCALES[k]) + 2
        symbols = np.arange(-reach, reach + 1)
        edges = (np.arange(-reach, reach + 2) - 0.5) / (SCALES[k] * math.sqrt(2))
        pmf = np.diff([-math.erfc(edge) / 2 for edge in edges])
        positive = pmf > 0
        entropy = -(pmf[positive] * np.log2(pmf[positive])).sum()
        cost = (pmf * gaussians.bits(symbols, np.full(len(symbols), k))).sum()
        assert entropy - 1e-9 <= cost <= entropy * (1 + 1e-5) + 1e-6


def test_gaussian_tables_leave_at_most_the_tail_to_the_escape() -> None:
    tables = gaussian_tables([0.11, 1.0, 30.0], tail=1e-3)
    for k, sigma in enumerate((0.11, 1.0, 30.0)):
        outside = math.erfc((tables.highest[k] + 0.5) / sigma / math.sqrt(2))
        assert outside <= 1e-3
        assert tables.highest[k] == -tables.lowest[k] >= 1


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=50))
def test_the_scale_index_is_the_nearest_entry_in_log_sigma(scales: list[float]) -> None:
    scale = torch.tensor(scales)
    chosen = torch.log(torch.from_numpy(SCALES)[nearest_scale_index(scale)])
    distance = (torch.log(scale.double())[:, None] - torch.log(torch.from_numpy(SCALES))).abs()
    mine = (torch.log(scale.double()) - chosen).abs()
    assert torch.all(mine <= distance.min(dim=1).values + 1e-12)


def test_scales_beyond_the_table_take_its_ends() -> None:
    index = nearest_scale_index(torch.tensor([-3.0, 0.0, 0.1, 0.11, 256.0, 1e9]))
    assert index.tolist() == [0, 0, 0, 0, 63, 63]


def test_scales_run_evenly_in_the_logarithm_from_011_to_256() -> None:
    assert len(SCALES) == 64
    assert SCALES[0] == pytest.approx(0.11, rel=1e-12)
    assert SCALES[-1] == pytest.approx(256, rel=1e-12)
    np.testing.assert_allclose(scale_thresholds(), np.exp((np.log(SCALES)[1:] + np.log(SCALES)[:-1]) / 2))


def test_bits_are_minus_log2_of_the_frequency_and_escapes_pay_for_their_distance() -> None:
    tables = CodingTables(np.array([1 << 22, 1 << 23, (1 << 22) - 4, 4]), np.array([0, 4]), np.array([-1]))
    symbols = np.array([[-1, 0, 1, 2], [-2, 5, -(1 << 31), (1 << 31) - 1]])
    normal = 24 - np.log2([1 << 22, 1 << 23, (1 << 22) - 4])
    escapes = 22 + 6 + np.array([0, 0, 2, 30, 30])
    bits = tables.bits(symbols, np.zeros_like(symbols))
    np.testing.assert_allclose(bits, np.concatenate([normal, escapes]).reshape(2, 4), rtol=0, atol=1e-12)


@pytest.mark.parametrize("escape", [1, TOTAL // 4, TOTAL - 8])
def test_no_symbol_of_a_table_takes_less_than_its_least_bits(escape: int) -> None:
    lengths = [2, 5]
    frequencies = [TOTAL - escape, escape, 1, TOTAL - 7 - escape + 1, 2, 3, escape]
    tables = CodingTables(np.array(frequencies), np.array([0, 2, 7]), np.array([4, -2]))
    for k, (lowest, length) in enumerate(zip(tables.lowest, lengths, strict=True)):
        symbols = lowest + np.arange(-3, length + 3)
        assert tables.least_bits[k] == tables.bits(symbols, np.full(len(symbols), k)).min()


def test_what_a_pmf_leaves_out_becomes_its_escape() -> None:
    tables = tables_from_pmf([[0.25, 0.25], [0.5, 0.25, 0.125]], [3, -2])
    assert _table(tables, 0).tolist() == [TOTAL // 4, TOTAL // 4, TOTAL // 2]
    assert _table(tables, 1).tolist() == [TOTAL // 2, TOTAL // 4, TOTAL // 8, TOTAL // 8]
    assert tables.highest.tolist() == [4, 0]


def test_a_cdf_sampled_between_the_integers_gives_the_table_of_its_pmf() -> None:
    from_cdf = tables_from_cdf([np.array([0.25, 0.5, 0.875])], [7])
    assert _table(from_cdf, 0).tolist() == [TOTAL // 4, 3 * TOTAL // 8, 3 * TOTAL // 8]


def test_state_survives_tensors_and_gives_equal_tables(gaussians: CodingTables) -> None:
    tensors = {name: torch.from_numpy(array) for name, array in gaussians.state().items()}
    again = CodingTables.from_state(tensors)
    for name, array in gaussians.state().items():
        np.testing.assert_array_equal(getattr(again, name), array)
        assert array.dtype.str in ("<i4", "<i8")


def test_tables_cannot_be_changed_after_they_are_checked(gaussians: CodingTables) -> None:
    with pytest.raises(ValueError, match="read-only"):
        gaussians.frequencies[0] += 1
    gaussians.state()["frequencies"][0] += 1
    assert CodingTables.from_state(gaussians.state()).frequencies[0] == gaussians.frequencies[0]


@pytest.mark.parametrize(
    ("frequencies", "starts", "lowest", "message"),
    [
        ([TOTAL - 1, 2], [0, 2], [0], "does not sum"),
        ([TOTAL, 0], [0, 2], [0], "at least 1"),
        ([TOTAL + 1, -1], [0, 2], [0], "at least 1"),
        ([TOTAL], [0, 1], [0], "at least 2"),
        ([TOTAL - 1, 1, 5], [0, 2], [0], "starts"),
        ([TOTAL - 1, 1], [0, 2, 2], [0, 0], "starts"),
        ([TOTAL - 1, 1], [1, 2], [0], "starts"),
        ([TOTAL - 1, 1], [0, 2], [0, 0], "starts"),
        ([], [0], [], "starts"),
        ([TOTAL - 1.0, 1.0], [0, 2], [0], "integers"),
        ([TOTAL - 1, 1], [0, 2], [1 << 31], "lowest"),
        ([TOTAL - 2, 1, 1], [0, 3], [(1 << 31) - 1], "beyond int32"),
        ([[TOTAL - 1, 1]], [0, 2], [0], "vector"),
    ],
)
def test_malformed_tables_are_refused(
    frequencies: list[int], starts: list[int], lowest: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CodingTables(np.array(frequencies), np.array(starts), np.array(lowest))


@pytest.mark.parametrize("pmf", [[], [0.5, -0.1], [0.0, 0.0], [0.9, 0.2], [math.nan, 0.5], [[0.5]]])
def test_what_is_not_a_pmf_is_refused(pmf: list[float]) -> None:
    with pytest.raises(ValueError, match="pmf"):
        tables_from_pmf([pmf], [0])


def test_each_pmf_needs_its_lowest_symbol() -> None:
    with pytest.raises(ValueError, match="lowest"):
        tables_from_pmf([[0.5], [0.5]], [0])


@pytest.mark.parametrize("scales", [[0.0], [-1.0], [math.inf], [math.nan], [[1.0]]])
def test_scales_that_are_no_standard_deviations_are_refused(scales: list[float]) -> None:
    with pytest.raises(ValueError, match="scales"):
        gaussian_tables(scales)


@pytest.mark.parametrize(
    ("symbols", "indices", "message"),
    [
        ([0], [64], "0..63"),
        ([0], [-1], "0..63"),
        ([0, 1], [0], "shape"),
        ([1 << 31], [0], "allowed"),
        ([0.5], [0], "integers"),
        ([0], [0.0], "integers"),
    ],
)
def test_symbols_and_indices_out_of_range_are_refused(
    gaussians: CodingTables, symbols: list[int], indices: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gaussians.bits(symbols, indices)


def test_floor_log2_is_exact_around_every_power_of_two() -> None:
    powers = 1 << np.arange(1, 53)
    np.testing.assert_array_equal(floor_log2(powers), np.arange(1, 53))
    np.testing.assert_array_equal(floor_log2(powers - 1), np.arange(0, 52))


def test_bits_add_up_the_same_however_many_symbols_are_counted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = gaussian_tables()
    generator = np.random.default_rng(0)
    symbols, indices = generator.integers(-300, 300, 1000), generator.integers(0, len(tables), 1000)
    monkeypatch.setattr("lightning_modules.coding.tables.AT_A_TIME", 7)
    expected = float(tables.bits(symbols, indices).sum())
    assert total_bits(tables, symbols, indices) == pytest.approx(expected, rel=1e-12)
