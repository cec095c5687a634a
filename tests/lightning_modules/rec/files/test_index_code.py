"""Codes of indices: as long as their law's entropy, inverse to each other, equal on every machine."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from lightning_modules.coding.ans import AnsStack
from lightning_modules.rec.files.message_code import IndexCode, UniformCode, ZipfCode, uniform_table, zipf_table

UNIFORM_CRC = 0xD127CBF6
ZIPF_CRC = 0xAA974346

CODES = [
    UniformCode(num_candidates=36),
    UniformCode(num_candidates=512),
    UniformCode(num_candidates=1),
    ZipfCode(num_candidates=4096, kl_per_variable=6.0),
]


@pytest.mark.parametrize("code", CODES)
def test_what_is_pushed_is_popped_and_costs_what_the_code_says(code: IndexCode) -> None:
    indices = np.random.default_rng(0).integers(0, 1 if code is CODES[2] else 36, 5000)
    stack = AnsStack()
    code.push(stack, indices)
    assert abs(8 * len(stack.to_bytes()) - code.bits(indices)) < 0.002 * code.bits(indices) + 128
    assert np.array_equal(code.pop(stack, len(indices)), indices)
    assert stack.is_empty()


@pytest.mark.parametrize("n", [1, 2, 20, 36, 403, 512, 8103])
def test_uniform_indices_cost_log2_n_bits_each(n: int) -> None:
    assert UniformCode(num_candidates=n).bits(np.arange(n)) / n == pytest.approx(math.log2(n), abs=2e-3)


def test_the_zipf_table_is_the_papers_law() -> None:
    table = zipf_table(1000, 6.0)
    bits = 6.0 / math.log(2)
    exponent = 1 + 1 / (bits + math.log2(math.e) / math.e + 1)
    law = np.arange(1, 1001.0) ** -exponent
    found = table.frequencies[:-1] / 2**24
    assert np.abs(found / (law / law.sum()) - 1).max() < 1e-2


def test_indices_beyond_the_table_escape() -> None:
    code, stack = ZipfCode(num_candidates=16, kl_per_variable=1.0), AnsStack()
    indices = np.array([3, 16, 70_000, 0])
    code.push(stack, indices)
    assert code.pop(stack, 4).tolist() == indices.tolist()


def test_tables_are_the_integers_of_the_format() -> None:
    assert zlib.crc32(uniform_table(36).frequencies.astype("<i4").tobytes()) == UNIFORM_CRC
    assert zlib.crc32(zipf_table(403, 3.0).frequencies.astype("<i4").tobytes()) == ZIPF_CRC


@pytest.mark.parametrize("n", [0, (1 << 20) + 1])
def test_a_code_without_indices_or_with_too_many_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="a code needs 1"):
        UniformCode(num_candidates=n)
