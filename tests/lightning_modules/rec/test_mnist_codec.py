"""Digits in black and white: every pixel comes back, whatever the size of the board."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.errors import CodingError, DamagedFile
from lightning_modules.rec.mnist_codec import MnistCodec
from lightning_modules.rec.models.hierarchy import SOFTPLUS
from lightning_modules.rec.models.mnist_vae import UNIT_SPREAD
from tests.lightning_modules.rec.small_codecs import lossless_codec, picture

NORMAL = {"kind": "standard_normal"}


@pytest.fixture(scope="module")
def codec() -> MnistCodec:
    torch.manual_seed(0)
    return MnistCodec(width=16, latents=5, prior=NORMAL).eval()


@pytest.mark.parametrize("size", [(28, 28), (1, 1), (30, 57)])
def test_a_picture_comes_back_in_black_and_white(codec: MnistCodec, size: tuple[int, int]) -> None:
    x = picture(*size)
    decoded = codec.decode(codec.encode(codec.analyze(x)).sections, size)
    assert torch.equal(decoded, (x[:, :1] > 0.5).float().expand(1, 3, *size))


def test_the_paper_s_model_has_the_sizes_of_its_perceptrons() -> None:
    encoder = 784 * 300 + 300 + 300 * 300 + 300 + 300 * 100 + 100
    decoder = 50 * 300 + 300 + 300 * 300 + 300 + 300 * 784 + 784
    codec = MnistCodec(width=300, latents=50, prior=NORMAL)
    assert sum(parameter.numel() for parameter in codec.parameters()) == encoder + decoder == 697_484


def test_the_prior_is_standard_normal() -> None:
    for deviation in (SOFTPLUS.trained, SOFTPLUS.portable):
        assert float(deviation(torch.tensor(UNIT_SPREAD, dtype=torch.float64))) == pytest.approx(1.0, abs=1e-12)


def test_the_estimate_is_what_files_take_but_for_the_search(codec: MnistCodec) -> None:
    x = picture(28, 56)
    estimate, coded = codec.estimate(codec.analyze(x)), codec.encode(codec.analyze(x))
    assert float(estimate.bits["latents"]) == pytest.approx(coded.accounts["kl"], rel=1e-3)
    assert float(estimate.bits["pixels"]) == pytest.approx(coded.bits["pixels"], rel=0.05)


def test_damage_and_other_weights_are_refused(codec: MnistCodec) -> None:
    (section,) = codec.encode(codec.analyze(picture(28, 28))).sections
    with pytest.raises(DamagedFile):
        codec.decode([section._replace(content_crc=section.content_crc ^ 1)], (28, 28))
    with pytest.raises(CodingError, match="not a VAE of binarised MNIST"):
        MnistCodec.from_weights(lossless_codec().state_dict())
    again = MnistCodec.from_weights(codec.state_dict()).eval()
    assert torch.equal(again.decode([section], (28, 28)), codec.decode([section], (28, 28)))
