"""Lossless files: every byte comes back, at the price that is told; damage and other models are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lightning_modules.checkpoints.packaged_model import load_model, round_for_storage, save_model
from lightning_modules.coding.picture import pack, unpack
from lightning_modules.errors import CodingError, DamagedFile, WrongModel
from lightning_modules.rec.files.file_coder import default_coder
from lightning_modules.rec.lossless_codec import LosslessCodec
from lightning_modules.rec.models.pixel_likelihood import LIKELIHOODS
from lightning_modules.records import Coded, PixelFormat
from tests.lightning_modules.rec.small_codecs import lossless_codec, lossy_codec, picture


@pytest.fixture(scope="module")
def codec() -> LosslessCodec:
    return lossless_codec()


@pytest.fixture(scope="module")
def coded(codec: LosslessCodec) -> Coded:
    return codec.encode(codec.analyze(picture(32, 32)))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (32, 32), (33, 47)])
def test_a_picture_of_any_size_comes_back_exactly(codec: LosslessCodec, size: tuple[int, int]) -> None:
    x = picture(*size)
    assert torch.equal(codec.decode(codec.encode(codec.analyze(x)).sections, size), x)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_come_back_under_every_law(likelihood: str, value: float) -> None:
    other = lossless_codec(likelihood)
    x = torch.full((1, 3, 6, 4), value)
    assert torch.equal(other.decode(other.encode(other.analyze(x)).sections, (6, 4)), x)


def test_equal_channels_are_coded_once(codec: LosslessCodec, coded: Coded) -> None:
    gray = picture(32, 32)[:, :1].expand(1, 3, 32, 32)
    found = codec.encode(codec.analyze(gray))
    assert torch.equal(codec.decode(found.sections, (32, 32)), gray)
    assert found.bits["pixels"] < 0.6 * coded.bits["pixels"]


def test_every_bit_of_the_section_is_accounted_for(coded: Coded) -> None:
    (section,) = coded.sections
    parts = [coded.accounts[name] for name in ("indices", "counts", "schedules", "pixels")]
    head = 8 * len(default_coder().settings.to_bytes())
    assert sum(parts) == pytest.approx(sum(coded.bits.values()))
    assert 0.0 <= 8 * len(section.payload) - sum(parts) - head < 100.0
    assert head <= 13 * 8


def test_an_estimate_is_relative_entropy_and_pixels_under_a_sample(codec: LosslessCodec, coded: Coded) -> None:
    estimate = codec.estimate(codec.analyze(picture(32, 32)))
    assert float(estimate.bits["latents"]) == pytest.approx(coded.accounts["kl"], rel=0.1)
    assert float(estimate.bits["pixels"]) == pytest.approx(coded.bits["pixels"], rel=0.05)
    assert torch.equal(estimate.x_hat, picture(32, 32))


def test_files_are_the_same_with_two_threads(codec: LosslessCodec, coded: Coded) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = codec.decode(coded.sections, (32, 32))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(again, picture(32, 32))


def test_files_read_together_are_read_as_alone(codec: LosslessCodec, coded: Coded) -> None:
    other = codec.encode(codec.analyze(picture(32, 32, seed=9)))
    damaged = [coded.sections[0]._replace(content_crc=coded.sections[0].content_crc ^ 1)]
    found = codec.read_integers([coded.sections, damaged, other.sections], (32, 32))
    assert isinstance(found[1], DamagedFile)
    sound = [one for one in found if not isinstance(one, CodingError)]
    assert torch.equal(codec.synthesize(sound, (32, 32)), torch.cat([picture(32, 32), picture(32, 32, seed=9)]))


@pytest.mark.fuzz
def test_no_damage_to_a_payload_goes_unnoticed(codec: LosslessCodec) -> None:
    (section,) = codec.encode(codec.analyze(picture(6, 6))).sections
    wrong = 0
    positions = range(0, len(section.payload), 2)
    for k in positions:
        payload = bytearray(section.payload)
        payload[k] ^= 1 << k % 8
        (found,) = codec.read_integers([[section._replace(payload=bytes(payload))]], (6, 6))
        if isinstance(found, CodingError):
            assert "\n" not in str(found)
            wrong += 1
        else:  # bits that say something about search alone
            assert torch.equal(codec.synthesize([found], (6, 6)), picture(6, 6))
    assert wrong > 0.9 * len(positions)


@pytest.mark.fuzz
def test_a_cut_payload_is_refused(codec: LosslessCodec) -> None:
    (section,) = codec.encode(codec.analyze(picture(6, 6))).sections
    for length in range(0, len(section.payload), 3):
        (found,) = codec.read_integers([[section._replace(payload=section.payload[:length])]], (6, 6))
        assert isinstance(found, DamagedFile), length


def test_a_file_of_another_model_or_codec_is_refused(codec: LosslessCodec) -> None:
    data = pack(codec, codec.analyze(picture(6, 6)), PixelFormat()).data
    for other in (lossless_codec("shared_scale"), lossy_codec()):
        with pytest.raises(WrongModel, match=r"needs model [0-9a-f]{16}, have "):
            unpack(data, other)


def test_a_packaged_model_reads_and_writes_the_same_files(codec: LosslessCodec, coded: Coded, tmp_path: Path) -> None:
    save_model(codec, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert isinstance(loaded, LosslessCodec)
    assert loaded.hyperparameters == codec.hyperparameters
    assert torch.equal(loaded.decode(coded.sections, (32, 32)), picture(32, 32))
    assert loaded.encode(loaded.analyze(picture(32, 32))).sections == coded.sections


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_sizes_are_read_off_named_weights(likelihood: str) -> None:
    codec = lossless_codec(likelihood)
    again = LosslessCodec.from_weights(codec.state_dict(), lmbda=1.0).eval()
    assert again.hyperparameters == codec.hyperparameters
    assert again.update()
    assert not again.update()
    assert all(torch.equal(value, codec.decoder_state()[name]) for name, value in again.decoder_state().items())


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(CodingError, match="not a lossless ResNet VAE"):
        LosslessCodec.from_weights(lossy_codec().state_dict())
    state = lossless_codec().state_dict()
    del state["networks.stem.bias"]
    with pytest.raises(CodingError, match=r"missing networks\.stem\.bias"):
        LosslessCodec.from_weights(state)
    with pytest.raises(CodingError, match=r"likelihood=normal: give one of shared_scale, own_scales"):
        LosslessCodec(depth=2, width=4, latent_width=2, likelihood="normal")


def test_weights_rounded_for_storage_still_code(tmp_path: Path) -> None:
    codec = lossless_codec()
    round_for_storage(codec)
    save_model(codec, tmp_path / "small.safetensors")
    stored = load_file(tmp_path / "small.safetensors")
    left = {name for name, _ in codec.named_parameters()} & set(stored)
    assert left == {"networks.top"}, "integers imply all other weights"
    tables = [value for value in stored.values() if value.numel() == 1 << 16]
    assert all(not torch.equal(a, b) for k, a in enumerate(tables) for b in tables[:k])
    loaded = load_model(tmp_path / "small.safetensors")
    x = picture(8, 8)
    assert torch.equal(loaded.decode(codec.encode(codec.analyze(x)).sections, (8, 8)), x)
