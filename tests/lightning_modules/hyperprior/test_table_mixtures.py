"""Densities read off coding tables: the family's member, its likelihood, and the length that coding really takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from compressai.entropy_models import GaussianConditional

from lightning_modules.checkpoints.__main__ import read_rgb
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.codec import LatentVariableCodec
from lightning_modules.coding.tables import SCALES, gaussian_tables, tables_from_pmf
from lightning_modules.densities import gaussian_likelihood
from lightning_modules.hyperprior.calibration import WEIGHTS, WIDTHS, mixture
from lightning_modules.hyperprior.table_mixtures import table_mixtures
from lightning_modules.quantization import hard_round
from lightning_modules.training.rate_distortion import bits


def test_the_tables_of_training_are_read_as_plain_gaussians() -> None:
    mixtures = table_mixtures(gaussian_tables())
    assert torch.all(mixtures.widths == 1)
    assert torch.all(mixtures.weights == 0)


@pytest.mark.parametrize("seed", range(3))
def test_each_member_of_the_family_is_read_back_from_its_table(seed: int) -> None:
    generator = np.random.default_rng(seed)
    widths, weights = generator.choice(WIDTHS, len(SCALES)), generator.choice(WEIGHTS[1:], len(SCALES))
    pmfs = [mixture(*member) for member in zip(SCALES, widths, weights, strict=True)]
    read = table_mixtures(tables_from_pmf(pmfs, [-(len(pmf) // 2) for pmf in pmfs]))
    # members of the narrowest tables differ by less than a unit of frequency: their masses count, not their names
    for k in range(len(SCALES)):
        found = mixture(SCALES[k], float(read.widths[k]), float(read.weights[k]))
        half = min(len(found), len(pmfs[k])) // 2
        actual, expected = (pmf[len(pmf) // 2 - half : len(pmf) // 2 + half + 1] for pmf in (found, pmfs[k]))
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_without_calibration_likelihoods_are_those_of_training() -> None:
    conditional, generator = GaussianConditional(None), torch.Generator().manual_seed(0)
    y_hat = 5 * torch.randn(2, 8, 6, 6, generator=generator)
    scales, means = 3 * torch.rand(y_hat.shape, generator=generator), torch.randn(y_hat.shape, generator=generator)
    plain = gaussian_likelihood(conditional, y_hat, scales, means)
    torch.testing.assert_close(table_mixtures(gaussian_tables()).likelihood(conditional, y_hat, scales, means), plain)


def test_the_rate_as_coded_is_the_coded_length_where_the_trained_one_is_not(
    repository: Path, kodak: list[Path]
) -> None:
    codec = load_model(repository / "lightning_modules/checkpoints/demo-0.0025.safetensors")
    assert isinstance(codec, LatentVariableCodec)
    with torch.no_grad():
        latents = codec.analyze(read_rgb(kodak[4])[..., 100:356, 100:356])
        coded, trained = (
            float(sum(bits(p).sum() for p in generate(latents, hard_round).likelihoods.values()))
            for generate in (codec.generate_as_coded, codec.generate)
        )
        length = float(sum(codec.estimate(latents).bits.values()))
    assert abs(coded / length - 1) < 0.002 < abs(trained / length - 1)
