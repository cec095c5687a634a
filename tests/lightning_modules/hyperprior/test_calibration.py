"""Fitting tables to pictures: never dearer on what they were fitted to, exact to decode, Gaussian without data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_modules.coding.tables import SCALES, gaussian_tables
from lightning_modules.hyperprior.calibration import ENOUGH, best_pmf, calibrated_tables, mixture
from lightning_modules.hyperprior.codec import HyperpriorCodec


def test_a_wider_and_heavier_source_is_coded_in_fewer_bits() -> None:
    rng = np.random.default_rng(0)
    indices = rng.integers(10, 40, 300_000).astype(np.int32)
    symbols = np.round(SCALES[indices] * rng.standard_t(4, 300_000) * 1.2).astype(np.int32)
    fitted = calibrated_tables(symbols[::2], indices[::2], SCALES)
    held_out = symbols[1::2], indices[1::2]
    assert fitted.bits(*held_out).sum() < 0.98 * gaussian_tables(SCALES).bits(*held_out).sum()


def test_a_source_that_is_as_the_network_says_costs_no_more_than_before() -> None:
    rng = np.random.default_rng(1)
    indices = rng.integers(0, 50, 200_000).astype(np.int32)
    symbols = np.round(SCALES[indices] * rng.standard_normal(200_000)).astype(np.int32)
    fitted, plain = calibrated_tables(symbols, indices, SCALES), gaussian_tables(SCALES)
    assert fitted.bits(symbols, indices).sum() <= 1.001 * plain.bits(symbols, indices).sum()


@pytest.mark.parametrize("sigma", [0.11, 1.0, 256.0])
def test_a_table_without_data_stays_the_gaussian(sigma: float) -> None:
    pmf = best_pmf(np.ones(ENOUGH - 1, dtype=np.int32), sigma)
    assert np.array_equal(pmf, mixture(sigma, 1.0, 0.0))
    assert pmf.sum() == pytest.approx(1.0, abs=1e-9)
    assert np.array_equal(pmf, pmf[::-1])


def test_a_calibrated_codec_decodes_its_files_and_codes_its_pictures_shorter() -> None:
    torch.manual_seed(0)
    codec = HyperpriorCodec(N=8, M=12, lmbda=0.01).eval()
    pictures = [torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(k)) for k in range(6)]
    before = sum(len(codec.encode(codec.analyze(x)).sections[0].payload) for x in pictures)
    codec.calibrate(pictures)
    sections = [codec.encode(codec.analyze(x)).sections for x in pictures]
    assert sum(len(one[0].payload) for one in sections) <= before
    for x, one in zip(pictures, sections, strict=True):
        assert torch.equal(codec.decode(one, (128, 128)), codec.estimate(codec.analyze(x)).x_hat)
    assert codec.update() is False, "calibrated tables stay until the weights change"
