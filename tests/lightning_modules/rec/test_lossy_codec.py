"""Lossy files: the receiver has the sender's samples, bit for bit, and a picture of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_modules.checkpoints.packaged_model import load_model, save_model
from lightning_modules.errors import CodingError, DamagedFile
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.rec.files.file_coder import default_coder
from lightning_modules.rec.files.levels import GRID_BITS
from lightning_modules.rec.lossy_codec import LossyCodec
from lightning_modules.rec.models.lossy_vaes import ARCHITECTURES
from lightning_modules.records import Coded
from tests.lightning_modules.rec.small_codecs import lossless_codec, lossy_codec, picture


@pytest.fixture(scope="module")
def codec() -> LossyCodec:
    return lossy_codec()


@pytest.fixture(scope="module")
def coded(codec: LossyCodec) -> Coded:
    return codec.encode(codec.analyze(picture(64, 80)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [(1, 1), (33, 70)])
def test_pictures_of_any_size_come_back_in_their_size(architecture: str, size: tuple[int, int]) -> None:
    other = lossy_codec(architecture)
    assert other.decode(other.encode(other.analyze(picture(*size))).sections, size).shape == (1, 3, *size)


def test_a_receiver_elsewhere_has_the_same_samples(codec: LossyCodec, coded: Coded, tmp_path: Path) -> None:
    save_model(codec, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        (there,) = loaded.read_integers([coded.sections], (64, 80))
    finally:
        torch.set_num_threads(threads)
    (here,) = codec.read_integers([coded.sections], (64, 80))
    assert not isinstance(here, CodingError)
    assert not isinstance(there, CodingError)
    assert sorted(here) == ["z0", "z1"]
    assert all(np.array_equal(here[name], there[name]) for name in here)
    assert here["z0"].shape == (8, 1, 2)
    assert here["z1"].shape == (12, 4, 8)


def test_samples_stand_where_posteriors_do(codec: LossyCodec) -> None:
    """Of a level with much KL, coded samples lie within a few deviations of the posterior's mean."""
    x = picture(64, 64)
    features = [feature.detach() for feature in codec.networks.infer(x)]
    (integers,) = codec.read_integers([codec.encode(codec.analyze(x)).sections], (64, 64))
    assert not isinstance(integers, CodingError)
    z = torch.from_numpy(integers["z0"] * 2.0**-GRID_BITS)[None]
    found = features[0].chunk(2, dim=1)
    deviation = codec.networks.scale_map.trained(found[1])
    assert float(((z - found[0]) / deviation).abs().max()) < 6.0


def test_a_decoded_picture_is_the_same_alone_and_together(codec: LossyCodec, coded: Coded) -> None:
    other = codec.encode(codec.analyze(picture(64, 80, seed=4)))
    found = codec.read_integers([coded.sections, other.sections], (64, 80))
    together = codec.synthesize([one for one in found if not isinstance(one, CodingError)], (64, 80))
    assert torch.allclose(together[:1], codec.decode(coded.sections, (64, 80)), atol=1e-5)


def test_the_estimate_is_relative_entropy(codec: LossyCodec, coded: Coded) -> None:
    estimate = codec.estimate(codec.analyze(picture(64, 80)))
    assert float(estimate.bits["latents"]) == pytest.approx(coded.accounts["kl"], rel=0.2)
    assert estimate.x_hat.shape == (1, 3, 64, 80)


def test_any_change_of_the_payload_is_refused_or_changes_nothing(codec: LossyCodec, coded: Coded) -> None:
    (section,) = coded.sections
    (right,) = codec.read_integers([coded.sections], (64, 80))
    assert not isinstance(right, CodingError)
    for k in range(0, len(section.payload), 5):
        payload = bytearray(section.payload)
        payload[k] ^= 1 << k % 8
        (found,) = codec.read_integers([[section._replace(payload=bytes(payload))]], (64, 80))
        if isinstance(found, CodingError):
            assert isinstance(found, DamagedFile)
        else:
            assert all(np.array_equal(found[name], right[name]) for name in right)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sizes_are_read_off_named_weights(architecture: str) -> None:
    codec = lossy_codec(architecture)
    again = LossyCodec.from_weights(codec.state_dict(), lmbda=0.01)
    assert again.hyperparameters == codec.hyperparameters


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(CodingError, match="not a lossy VAE"):
        LossyCodec.from_weights(lossless_codec().state_dict(), lmbda=0.01)
    with pytest.raises(CodingError, match=r"architecture=three: give one of one_level, two_levels, four_levels"):
        LossyCodec(architecture="three", widths=[4, 4], lmbda=0.01)


def test_a_coder_of_this_room_refuses_other_codecs() -> None:
    coder = default_coder()
    with pytest.raises(CodingError, match="HyperpriorCodec has no posteriors"):
        coder.encode(HyperpriorCodec(N=4, M=4, lmbda=0.01), [])
