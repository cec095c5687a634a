"""The bits-back hyperprior: the loss is the formula, files decode exactly, and lengths are what the tables say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.checkpoints.packaged_model import load_model, save_model
from lightning_modules.coding.picture import pack, unpack
from lightning_modules.errors import CodingError, WrongModel
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.quantization import hard_round
from lightning_modules.records import Latents, PixelFormat
from lightning_modules.sga.bits_back.codec import BitsBackCodec
from lightning_modules.sga.bits_back.streams import Picture, single
from lightning_modules.training.rate_distortion import bits
from tests.lightning_modules.sga.bits_back.conftest import searched
from tests.lightning_modules.sga.small_refinement import crop_of_photograph


@pytest.mark.parametrize("size", [(64, 96), (50, 83), (1, 1)])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_file_decodes_to_the_rounded_y(bits_back_codec: BitsBackCodec, size: tuple[int, int], steps: int) -> None:
    latents = searched(bits_back_codec, crop_of_photograph(80, 190, *size), steps)
    data = pack(bits_back_codec, latents, PixelFormat()).data
    x_hat, _ = unpack(data, bits_back_codec)
    assert torch.equal(x_hat, bits_back_codec.estimate(latents).x_hat)
    (integers,) = bits_back_codec.read_integers([bits_back_codec.encode(latents).sections], size)
    assert not isinstance(integers, CodingError)
    assert np.array_equal(integers["y"], latents.variables["y"].round()[0].numpy())


@pytest.mark.parametrize("steps", [0, 3])
def test_the_stack_grows_by_the_estimate_and_the_file_holds_that_and_the_initial_bits(
    bits_back_codec: BitsBackCodec, picture: Tensor, steps: int
) -> None:
    latents = searched(bits_back_codec, picture, steps)
    coded = bits_back_codec.encode(latents)
    estimated = float(sum(bits_back_codec.estimate(latents).bits.values()))
    accounts = coded.accounts
    assert accounts["net_estimated"] == pytest.approx(estimated, rel=1e-6)
    assert abs(accounts["net"] - estimated) <= 0.005 * estimated + 64
    gross = 8 * len(coded.sections[0].payload)
    assert gross == pytest.approx(accounts["net"] + accounts["initial"], abs=8 * 8 + 64)
    assert coded.bits["back"] < 0 < coded.bits["z"] + coded.bits["back"]


def test_the_grid_costs_no_more_than_two_per_cent_over_a_continuous_z(bits_back_codec: BitsBackCodec) -> None:
    latents = searched(bits_back_codec, crop_of_photograph(0, 60, 192, 320), 0)
    estimates = [
        bits_back_codec.encode_each([latents], lambda pictures: [single(pictures[0], fineness)])[0].accounts  # noqa: B023
        for fineness in (0, 2, 4)
    ]
    for accounts in estimates:
        assert accounts["net_estimated"] == pytest.approx(accounts["net_monte_carlo"], rel=0.02)
        assert 0 < accounts["net_monte_carlo_error"] < 0.02 * accounts["net_monte_carlo"]


def test_a_longer_search_for_q_takes_fewer_bits(bits_back_codec: BitsBackCodec, picture: Tensor) -> None:
    plain, better = (bits_back_codec.encode(searched(bits_back_codec, picture, steps)) for steps in (0, 60))
    assert better.accounts["net_monte_carlo"] < 0.99 * plain.accounts["net_monte_carlo"]


def test_likelihoods_multiply_to_the_net_rate(bits_back_codec: BitsBackCodec, picture: Tensor) -> None:
    """Net = -log2 P(y|z) - log2 p(z) + log2 q(z), with the density of z by autograd of its CDF."""
    latents = bits_back_codec.analyze(picture)
    mean, log_variance = latents.variables["mean"], latents.variables["log_variance"]
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    synthesis = bits_back_codec.generate_from(latents, hard_round, lambda like: noise)
    z = (mean + torch.exp(log_variance / 2) * noise).detach().requires_grad_()
    channels = z.transpose(0, 1).reshape(z.shape[1], 1, -1)
    bottleneck = bits_back_codec.entropy_bottleneck
    cdf = torch.sigmoid(bottleneck._logits_cumulative(channels, stop_gradient=False))
    (density,) = torch.autograd.grad(cdf.sum(), z)
    q = torch.distributions.Normal(mean, torch.exp(log_variance / 2)).log_prob(z)
    found = float((bits(synthesis.likelihoods["z"]) + bits(synthesis.likelihoods["back"])).detach())
    expected = float((q.sum() - density.clamp_min(1e-9).log().sum()).detach()) / math.log(2)
    assert found == pytest.approx(expected, rel=1e-3)


def test_sigma_is_bounded_above_in_training_alone() -> None:
    torch.manual_seed(0)
    codec = BitsBackCodec(N=8, M=12, lmbda=0.01)
    with torch.no_grad():
        codec.h_s[-1].get_parameter("bias")[:12] = 50.0
    latents = Latents(dict(codec.analyze(torch.rand(1, 3, 64, 64)).variables), (64, 64))
    outlier = Latents({**latents.variables, "y": latents.variables["y"] + 40}, (64, 64))
    trained, coded = (
        float(bits(synthesis.likelihoods["y"]).detach())
        for synthesis in (codec.generate_for_training(outlier), codec.generate(outlier, hard_round))
    )
    assert trained > 2 * coded


def test_a_saved_model_codes_the_same_when_it_is_loaded_again(
    bits_back_codec: BitsBackCodec, picture: Tensor, tmp_path: Path
) -> None:
    save_model(bits_back_codec, tmp_path / "codec.safetensors")
    loaded = load_model(tmp_path / "codec.safetensors")
    data = pack(bits_back_codec, searched(bits_back_codec, picture), PixelFormat()).data
    assert pack(loaded, searched(bits_back_codec, picture), PixelFormat()).data == data
    unpack(data, loaded)


def test_a_model_of_another_machine_that_computes_otherwise_is_refused(
    bits_back_codec: BitsBackCodec, tmp_path: Path
) -> None:
    state = bits_back_codec.decoder_state()
    state["exact.answer"] = state["exact.answer"] ^ 1
    with pytest.raises(CodingError, match="another q"):
        bits_back_codec.load_derived(state)


def test_a_file_of_another_model_is_refused(bits_back_codec: BitsBackCodec, codec: HyperpriorCodec, x: Tensor) -> None:
    data = pack(codec, codec.analyze(x), PixelFormat()).data
    with pytest.raises(WrongModel):
        unpack(data, bits_back_codec)


def test_an_altered_byte_of_a_section_is_refused_even_under_new_checksums(
    bits_back_codec: BitsBackCodec, picture: Tensor
) -> None:
    (section,) = bits_back_codec.encode(searched(bits_back_codec, picture, 1)).sections
    size = (picture.shape[-2], picture.shape[-1])
    for position in range(0, len(section.payload), 97):
        changed = bytearray(section.payload)
        changed[position] ^= 16
        (found,) = bits_back_codec.read_integers([[section._replace(payload=bytes(changed))]], size)
        assert isinstance(found, CodingError), position


def test_a_cut_stream_is_refused(bits_back_codec: BitsBackCodec, picture: Tensor) -> None:
    (section,) = bits_back_codec.encode(searched(bits_back_codec, picture, 0)).sections
    for length in (0, 3, 6, 14, len(section.payload) // 2 & ~3 | 2, len(section.payload) - 4):
        cut = section._replace(payload=section.payload[:length])
        (found,) = bits_back_codec.read_integers([[cut]], (128, 160))
        assert isinstance(found, CodingError), length


def test_pictures_know_how_many_latents_they_have(bits_back_codec: BitsBackCodec, picture: Tensor) -> None:
    seen: list[Picture] = []

    def stream(pictures):
        seen.extend(pictures)
        return [single(one, 2) for one in pictures]

    bits_back_codec.encode_each([searched(bits_back_codec, picture, 0)], stream)
    assert seen[0].symbols == 64 * 2 * 3
