"""The grid of integers: files that decode exactly, at the rate that the density promises."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.checkpoints.checkpoint import load_codec
from lightning_modules.checkpoints.packaged_model import load_model, save_model
from lightning_modules.coding.picture import pack, unpack
from lightning_modules.coding.shifted_tables import FRACTIONS, gaussian_pmf, shifted_tables, split_means
from lightning_modules.coding.tables import SCALES
from lightning_modules.densities import medians
from lightning_modules.errors import CodingError, WrongModel
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.quantization import hard_round
from lightning_modules.records import PixelFormat
from lightning_modules.sga.codec import IntegerGridCodec
from lightning_modules.training.rate_distortion import bits
from tests.lightning_modules.sga.small_refinement import crop_of_photograph
from tests.lightning_modules.sga.small_refinement import refinement as small


@pytest.fixture(scope="module")
def integer_codec() -> IntegerGridCodec:
    codec = load_codec("demo", IntegerGridCodec, lmbda=0.005, cache_dir=Path("none"))
    assert isinstance(codec, IntegerGridCodec)
    return codec


@pytest.mark.parametrize("size", [(64, 96), (50, 83), (1, 1)])
def test_a_file_decodes_to_the_integers_nearest_to_the_latents(
    integer_codec: IntegerGridCodec, size: tuple[int, int]
) -> None:
    x = crop_of_photograph(80, 190, *size)
    latents = integer_codec.analyze(x)
    coded = integer_codec.encode(latents)
    (integers,) = integer_codec.read_integers([coded.sections], latents.image_size)
    assert not isinstance(integers, CodingError)
    y_hat = integers["y"] + integers["mean"] / 256
    assert np.array_equal(y_hat, latents.variables["y"].detach().round()[0].numpy())
    assert np.array_equal(integers["z"], latents.variables["z"].detach().round()[0].numpy())
    assert torch.equal(integer_codec.decode(coded.sections, size), integer_codec.estimate(latents).x_hat)


def test_y_is_decoded_to_integers_and_a_refinement_scores_just_these(
    integer_codec: IntegerGridCodec, x: Tensor
) -> None:
    refine = small(steps=30)
    latents = refine(integer_codec, x)
    x_hat, _ = unpack(pack(integer_codec, latents, PixelFormat()).data, integer_codec)
    mse = float((x_hat - x).square().mean())
    assert refine.trace[0][-1].psnr_float == pytest.approx(-10 * math.log10(mse), rel=1e-6)
    assert refine.trace[0][-1].true_loss < 0.99 * refine.trace[0][0].true_loss


def test_quantizers_see_no_offset(integer_codec: IntegerGridCodec, x: Tensor) -> None:
    offsets: list[Tensor] = []

    def quantize(value: Tensor, offset: Tensor) -> Tensor:
        offsets.append(offset)
        return hard_round(value, offset)

    with torch.no_grad():
        integer_codec.generate(integer_codec.analyze(x), quantize)
    assert [float(offset.abs().max()) for offset in offsets] == [0.0, 0.0]
    assert float(medians(integer_codec.entropy_bottleneck).abs().max()) == 0.0


def test_the_coding_tables_cost_what_the_density_promises(integer_codec: IntegerGridCodec) -> None:
    x = crop_of_photograph(40, 120, 128, 160)
    latents = integer_codec.analyze(x)
    with torch.no_grad():
        synthesis = integer_codec.generate(latents, hard_round)
    estimate = integer_codec.estimate(latents)
    for name, likelihood in synthesis.likelihoods.items():
        assert float(estimate.bits[name]) == pytest.approx(float(bits(likelihood)), rel=0.01)


def test_a_saved_model_codes_the_same_when_it_is_loaded_again(
    integer_codec: IntegerGridCodec, x: Tensor, tmp_path: Path
) -> None:
    save_model(integer_codec, tmp_path / "codec.safetensors")
    loaded = load_model(tmp_path / "codec.safetensors")
    assert isinstance(loaded, IntegerGridCodec)
    data = pack(integer_codec, integer_codec.analyze(x), PixelFormat()).data
    assert pack(loaded, loaded.analyze(x), PixelFormat()).data == data
    unpack(data, loaded)


def test_the_other_grid_refuses_its_files(integer_codec: IntegerGridCodec, codec: HyperpriorCodec, x: Tensor) -> None:
    data = pack(integer_codec, integer_codec.analyze(x), PixelFormat()).data
    with pytest.raises(WrongModel):
        unpack(data, codec)


def test_it_cannot_be_calibrated(integer_codec: IntegerGridCodec) -> None:
    with pytest.raises(CodingError, match="leave --calibrate out"):
        integer_codec.calibrate([])


# ---- its tables


def test_there_is_a_table_for_each_scale_and_sixteenth_of_a_mean() -> None:
    assert len(shifted_tables()) == len(SCALES) * FRACTIONS == 1024


@pytest.mark.parametrize(("scale", "fraction"), [(0, 8), (20, 3), (40, 15)])
def test_a_table_holds_the_mass_of_its_gaussian_around_each_integer(scale: int, fraction: int) -> None:
    tables, sigma, mean = shifted_tables(), float(SCALES[scale]), fraction / FRACTIONS
    symbols = np.arange(-2, 4)
    found = tables.bits(symbols, np.full(6, scale * FRACTIONS + fraction))
    for symbol, cost in zip(symbols, found, strict=True):
        upper, lower = ((symbol + side - mean) / sigma / math.sqrt(2) for side in (0.5, -0.5))
        mass = (math.erf(upper) - math.erf(lower)) / 2
        if mass > 1e-5:
            assert cost == pytest.approx(-math.log2(mass), abs=2e-3)


def test_far_masses_keep_their_digits() -> None:
    expected = (math.erfc(9.5 / math.sqrt(2)) - math.erfc(10.5 / math.sqrt(2))) / 2
    assert gaussian_pmf(np.array([-10.0, 10.0]), 1.0).tolist() == pytest.approx([expected, expected], rel=1e-12)


def test_means_are_split_into_an_integer_and_the_nearest_sixteenth() -> None:
    means = np.arange(-2000, 2000, dtype=np.int32)
    base, fraction = split_means(means, 8)
    assert fraction.min() == 0
    assert fraction.max() == FRACTIONS - 1
    error = means / 256 - (base + fraction / FRACTIONS)
    assert np.abs(error).max() == 1 / 32


def test_means_at_the_end_of_their_range_are_split_too() -> None:
    base, fraction = split_means(np.array([2**31 - 1, -(2**31)], dtype=np.int32), 8)
    assert base.tolist() == [2**23, -(2**23)]
    assert fraction.tolist() == [0, 0]
