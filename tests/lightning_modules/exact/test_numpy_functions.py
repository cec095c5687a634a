"""Elementary functions of IEEE operations alone: near the library's, and of one bit pattern."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from scipy.special import erfcx, expit, ndtr, ndtri

from lightning_modules.exact import numpy_functions

WIDE = np.linspace(-37.0, 37.0, 100_001)


@pytest.mark.parametrize(
    ("ours", "library", "x"),
    [
        (numpy_functions.exp, np.exp, np.linspace(-700, 700, 100_001)),
        (numpy_functions.normal_cdf, ndtr, WIDE),
        (numpy_functions.sigmoid, expit, WIDE),
        (numpy_functions.scaled_erfc, erfcx, np.geomspace(1e-9, 1e4, 100_001)),
    ],
)
def test_values_are_those_of_the_library_to_ten_digits(ours, library, x) -> None:
    assert np.abs(ours(x) / library(x) - 1).max() < 1e-10


def test_tanh_and_quantiles_are_near_the_librarys() -> None:
    assert np.abs(numpy_functions.tanh(WIDE) - np.tanh(WIDE)).max() < 1e-15
    assert np.abs(numpy_functions.normal_quantiles(4096) - ndtri((np.arange(4096) + 0.5) / 4096)).max() < 1e-10


def test_arguments_beyond_the_reach_count_as_its_end() -> None:
    assert np.array_equal(numpy_functions.exp(np.array([-1e9, 1e9])), numpy_functions.exp(np.array([-700.0, 700.0])))


def test_a_value_does_not_depend_on_its_neighbours_or_their_number() -> None:
    together = numpy_functions.normal_cdf(WIDE)
    alone = [numpy_functions.normal_cdf(WIDE[k : k + 1])[0] for k in range(0, len(WIDE), 997)]
    assert np.array_equal(together[::997], alone)


@pytest.mark.parametrize(
    ("function", "crc"),
    [("exp", 0x4C968265), ("normal_cdf", 0x8CEBB6CB), ("sigmoid", 0x801AA32E), ("tanh", 0x910F5454)],
)
def test_bits_are_those_of_every_other_machine(function: str, crc: int) -> None:
    assert zlib.crc32(getattr(numpy_functions, function)(WIDE).astype("<f8").tobytes()) == crc
