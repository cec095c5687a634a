"""Densities as integer frequencies: exact sums, no zero, near the density's own mass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from lightning_modules.coding.leaky import GaussianRows, Grid, SharedRows, bits, leaky_frequencies, shared_rows, spans
from lightning_modules.coding.tables import TOTAL


@settings(deadline=None, max_examples=50)
@given(mean=st.floats(-60, 60), deviation=st.floats(1e-3, 30), fineness=st.integers(0, 4), extent=st.integers(0, 6))
def test_rows_of_any_gaussian_have_no_zero_and_the_same_sum(
    mean: float, deviation: float, fineness: int, extent: int
) -> None:
    rows = GaussianRows(Grid(2.0**-fineness, 1 << (extent + fineness)), np.array([mean]), np.array([deviation]))
    frequencies = rows.frequencies(0, 1)
    assert frequencies.shape == (1, rows.width)
    assert frequencies.min() >= 1
    assert frequencies.sum() == TOTAL


def test_an_entry_has_the_mass_around_its_point_and_the_ends_have_the_tails() -> None:
    grid = Grid(0.5, 4)
    (row,) = GaussianRows(grid, np.array([0.3]), np.array([0.9])).frequencies(0, 1) / TOTAL
    edges = (np.arange(9) - 4 - 0.5) * 0.5
    edges[0] = -np.inf
    mass = np.diff(np.append(ndtr((edges - 0.3) / 0.9), 1.0))
    assert np.abs(row - mass).max() < 2e-6


def test_a_cdf_that_falls_by_a_rounding_error_counts_as_level() -> None:
    assert leaky_frequencies(np.array([[0.5, 0.4999999, 0.75]])).min() >= 1


def test_a_grid_too_fine_for_the_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="too little"):
        leaky_frequencies(np.zeros((1, TOTAL >> 4)))


def test_shared_rows_are_chosen_by_key() -> None:
    rows = shared_rows(Grid(1.0, 2), lambda edges: np.stack([ndtr(edges), ndtr(edges / 3)]), np.array([1, 0, 1]))
    assert np.array_equal(rows.frequencies(1, 3), rows.table[[0, 1]])
    assert len(rows) == 3


def test_bits_are_minus_log2_of_the_frequencies() -> None:
    table = np.array([[TOTAL // 2, TOTAL // 4, TOTAL // 4]], dtype=np.int32)
    rows = SharedRows(table, np.zeros(4, dtype=np.int64))
    assert bits(np.array([0, 1, 2, 0], dtype=np.int32), rows) == 6.0


def test_rows_are_made_some_at_a_time_and_none_is_left_out() -> None:
    rows = GaussianRows(Grid(1.0, 1 << 17), np.zeros(9), np.ones(9))
    assert [stop - start for start, stop in spans(rows)] == [3, 3, 3]
