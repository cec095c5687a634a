"""The four transforms: sizes at every resolution, names of CompressAI, published parameter counts, the start."""

from __future__ import annotations

import pytest
import torch
from compressai.models import MeanScaleHyperprior

from lightning_modules.hyperprior import networks
from lightning_modules.hyperprior.codec import HyperpriorCodec


@pytest.mark.parametrize(
    ("image", "y", "z"),
    [
        ((1, 1), (1, 1), (1, 1)),
        ((512, 768), (32, 48), (8, 12)),
        ((500, 333), (32, 21), (8, 6)),
        ((17, 65), (2, 5), (1, 2)),
    ],
)
def test_latents_are_16_and_64_times_smaller_rounding_up(
    image: tuple[int, int], y: tuple[int, int], z: tuple[int, int]
) -> None:
    latents = HyperpriorCodec(N=4, M=6, lmbda=0.01).analyze(torch.rand(1, 3, *image)).variables
    assert latents["y"].shape == (1, 6, *y)
    assert latents["z"].shape == (1, 4, *z)


def test_parameters_carry_compressai_names_and_shapes() -> None:
    theirs, ours = MeanScaleHyperprior(8, 12).state_dict(), HyperpriorCodec(N=8, M=12, lmbda=0.01).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


@pytest.mark.parametrize(("N", "M", "millions"), [(128, 128, 5.02), (192, 192, 11.27), (128, 192, 7.03)])
def test_parameter_counts_are_the_published_ones(N: int, M: int, millions: float) -> None:
    count = sum(parameter.numel() for parameter in HyperpriorCodec(N=N, M=M, lmbda=0.01).parameters())
    assert round(count / 1e6, 2) == millions


def test_a_fresh_codec_starts_at_gray_with_latents_above_the_rounding_noise() -> None:
    torch.manual_seed(0)
    codec = HyperpriorCodec(N=64, M=96, lmbda=0.01)
    x = 0.5 + 0.25 * torch.randn(2, 3, 64, 64)
    latents = codec.analyze(x)
    assert 0.5 < latents.variables["y"].std() < 8
    scales, means = codec.coding_parameters(latents.variables["z"], (4, 4))
    assert 0.5 < scales.mean() < 1.5
    assert means.abs().mean() < 1
    assert 0.3 < codec(x)["x_hat"].mean() < 0.7


def test_fan_in_counts_the_inputs_that_meet_in_one_output() -> None:
    assert networks.fan_in(networks.convolution(8, 4, 5, 2)) == 200
    assert networks.fan_in(networks.upsampling(8, 4)) == 50
