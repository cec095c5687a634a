"""One picture as one file, and back; and the fingerprint that ties files to models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.coding import picture
from lightning_modules.coding.container import fingerprint, read
from lightning_modules.coding.picture import model_fingerprint, pack, unpack, unpack_each
from lightning_modules.errors import CodingError, DamagedFile, WrongModel
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.records import Latents, PixelFormat

SIZE = (37, 70)


def tiny_codec(seed: int = 0) -> HyperpriorCodec:
    """Sigmas, means and medians all differ, as in a trained model."""
    torch.manual_seed(seed)
    codec = HyperpriorCodec(N=8, M=12, lmbda=0.01).eval()
    weights = dict(codec.named_parameters())
    with torch.no_grad():
        weights["h_s.4.bias"].add_(torch.rand(24))
        weights["entropy_bottleneck.matrices.0"].add_(torch.randn(8, 3, 1))
        weights["entropy_bottleneck.biases.0"].add_(torch.randn(8, 3, 1))
    return codec


@pytest.fixture(scope="module")
def codec() -> HyperpriorCodec:
    return tiny_codec()


@pytest.fixture(scope="module")
def latents(codec: HyperpriorCodec) -> Latents:
    with torch.no_grad():
        return codec.analyze(torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1)))


def alpha_plane() -> Tensor:
    return torch.randint(0, 256, SIZE, dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("alpha", [None, alpha_plane(), torch.full(SIZE, 128, dtype=torch.uint8)])
@pytest.mark.parametrize("icc_profile", [None, bytes(range(256)) * 3])
def test_a_picture_survives_with_its_pixel_format(
    gray: bool, alpha: Tensor | None, icc_profile: bytes | None, codec: HyperpriorCodec, latents: Latents
) -> None:
    x_hat, found = unpack(pack(codec, latents, PixelFormat(gray, alpha, icc_profile)).data, codec)
    assert torch.equal(x_hat, codec.estimate(latents).x_hat)
    assert x_hat.shape[-2:] == SIZE
    assert found.gray is gray
    assert found.icc_profile == icc_profile
    if alpha is None:
        assert found.alpha is None
    else:
        assert found.alpha is not None
        assert torch.equal(found.alpha, alpha)


def test_the_account_of_a_file_adds_up(codec: HyperpriorCodec, latents: Latents) -> None:
    packed = pack(codec, latents, PixelFormat(alpha=alpha_plane()))
    estimated = sum(float(bits) for bits in codec.estimate(latents).bits.values())
    assert packed.estimated_bits == pytest.approx(estimated)
    assert abs(8 * packed.payload_bytes - estimated) < 16 * 8
    bitstream = read(packed.data)
    assert packed.payload_bytes == sum(len(section.payload) for section in bitstream.sections)
    assert bitstream.codec_id == HyperpriorCodec.codec_id
    assert bitstream.fingerprint == model_fingerprint(codec)


def test_packing_the_same_picture_twice_gives_the_same_bytes(codec: HyperpriorCodec, latents: Latents) -> None:
    assert pack(codec, latents, PixelFormat()).data == pack(codec, latents, PixelFormat()).data


def test_another_model_is_refused_by_both_names(codec: HyperpriorCodec, latents: Latents) -> None:
    data, other = pack(codec, latents, PixelFormat()).data, tiny_codec(1)
    with pytest.raises(WrongModel) as caught:
        unpack(data, other)
    assert model_fingerprint(codec).hex() in str(caught.value)
    assert model_fingerprint(other).hex() in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_codec_of_the_same_weights_is_refused(codec: HyperpriorCodec, latents: Latents) -> None:
    class BitsBackCodec(HyperpriorCodec):
        codec_id = 77

    other = BitsBackCodec(**codec.hyperparameters)
    other.load_state_dict(codec.state_dict())
    data = pack(codec, latents, PixelFormat()).data
    assert model_fingerprint(other) == model_fingerprint(codec)
    with pytest.raises(WrongModel, match=r"needs codec 1 .* have codec 77"):
        unpack(data, other)


def test_a_batch_and_an_alpha_of_another_size_are_the_callers_fault(codec: HyperpriorCodec, latents: Latents) -> None:
    batch = Latents({name: torch.cat((v, v)) for name, v in latents.variables.items()}, latents.image_size)
    with pytest.raises(ValueError, match="one picture"):
        pack(codec, batch, PixelFormat())
    with pytest.raises(ValueError, match=r"\(70, 37\) does not cover"):
        pack(codec, latents, PixelFormat(alpha=alpha_plane().T))


@pytest.mark.parametrize("part", ["header", "alpha", "profile", "latents"])
def test_damage_of_any_part_is_noticed(part: str, codec: HyperpriorCodec, latents: Latents) -> None:
    data = bytearray(pack(codec, latents, PixelFormat(alpha=alpha_plane(), icc_profile=b"profile" * 9)).data)
    bitstream = read(bytes(data))
    assert bitstream.alpha is not None
    assert bitstream.icc is not None
    payloads = {"alpha": bitstream.alpha, "profile": bitstream.icc, "latents": bitstream.sections[0]}
    position = 16 if part == "header" else data.index(payloads[part].payload) + 3
    data[position] ^= 4
    with pytest.raises(DamagedFile, match="damaged"):
        unpack(bytes(data), codec)


@pytest.mark.parametrize(
    "allocate",
    [lambda: bytearray(1 << 60), lambda: np.empty(1 << 60, np.uint8), lambda: torch.empty(1 << 60, dtype=torch.uint8)],
    ids=["python", "numpy", "torch"],
)
def test_a_picture_that_memory_does_not_hold_is_refused(
    allocate: Callable[[], object], latents: Latents, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = tiny_codec()
    monkeypatch.setattr(codec, "synthesize", lambda integers, image_size: allocate())
    with pytest.raises(CodingError, match=r"^not enough memory for a picture of 37x70 pixels; decode it where .*$"):
        unpack(pack(codec, latents, PixelFormat()).data, codec)


def test_a_fault_of_ours_is_not_taken_for_a_lack_of_memory(latents: Latents, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = tiny_codec()
    monkeypatch.setattr(codec, "synthesize", lambda integers, image_size: torch.ones(2, 3) @ torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        unpack(pack(codec, latents, PixelFormat()).data, codec)


# ---- the fingerprint


def decoder_weights() -> list[str]:
    """Every trained tensor that a decoder computes with, h_s and g_s layer by layer, and z's density."""
    names = [name for name, _ in tiny_codec().named_parameters()]
    return [name for name in names if name.split(".")[0] in ("g_s", "h_s") or ".quantiles" in name] + [
        "entropy_bottleneck.matrices.0",
        "entropy_bottleneck.biases.3",
        "entropy_bottleneck.factors.1",
    ]


@pytest.fixture(scope="module")
def marked() -> HyperpriorCodec:
    """A codec whose fingerprint was asked for before its weights change."""
    codec = tiny_codec()
    model_fingerprint(codec)
    return codec


@pytest.mark.parametrize("name", [name for name in decoder_weights() if ".quantiles" not in name])
def test_a_change_of_any_decoder_weight_is_another_model(name: str, marked: HyperpriorCodec) -> None:
    before = model_fingerprint(marked)
    parameter = dict(marked.named_parameters())[name]
    with torch.no_grad():
        parameter.view(-1)[0] += 0.05
    after = model_fingerprint(marked)
    assert after != before
    assert after == fingerprint(marked.decoder_state())


@pytest.mark.parametrize("name", ["g_a.0.weight", "g_a.3.gamma", "g_a.6.bias", "h_a.0.weight", "h_a.4.bias"])
def test_a_change_of_the_encoder_alone_is_the_same_model(name: str, marked: HyperpriorCodec) -> None:
    before = model_fingerprint(marked)
    with torch.no_grad():
        dict(marked.named_parameters())[name].add_(1.0)
    assert model_fingerprint(marked) == before


def test_an_optimizer_step_is_another_model(marked: HyperpriorCodec) -> None:
    before = model_fingerprint(marked)
    optimizer = torch.optim.Adam(marked.parameters(), lr=1e-3)
    synthesis = marked(torch.rand(1, 3, 64, 64))
    (synthesis["x_hat"].square().mean() - synthesis["likelihoods"]["z"].log().sum()).backward()
    optimizer.step()
    assert model_fingerprint(marked) != before


def test_loaded_weights_are_another_model_until_they_are_put_back(tmp_path: Path) -> None:
    codec = tiny_codec()
    before = model_fingerprint(codec)
    torch.save(codec.state_dict(), tmp_path / "weights.pt")
    codec.load_state_dict(tiny_codec(5).state_dict())
    assert model_fingerprint(codec) != before
    codec.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert model_fingerprint(codec) == before


def test_a_write_behind_autograds_back_is_another_model() -> None:
    codec = tiny_codec()
    before = model_fingerprint(codec)
    dict(codec.named_parameters())["g_s.0.weight"].data.view(-1)[0] = -3.0
    assert model_fingerprint(codec) == fingerprint(codec.decoder_state()) != before


def test_other_tables_are_another_model() -> None:
    codec, other = tiny_codec(), tiny_codec(1)
    before = model_fingerprint(codec)
    codec.load_derived(other.decoder_state())
    assert model_fingerprint(codec) == fingerprint(codec.decoder_state()) != before


def test_models_made_in_inference_mode_have_the_same_fingerprint() -> None:
    with torch.inference_mode():
        inside = model_fingerprint(tiny_codec())
    assert inside == model_fingerprint(tiny_codec())


def test_a_model_that_did_not_change_is_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = tiny_codec()
    before = model_fingerprint(codec)
    monkeypatch.setattr(picture, "fingerprint", lambda _: pytest.fail("hashed again"))
    assert model_fingerprint(codec) == before


def test_equal_codecs_are_the_same_model() -> None:
    assert model_fingerprint(tiny_codec()) == model_fingerprint(tiny_codec())


def test_files_unpacked_together_are_those_unpacked_alone(codec: HyperpriorCodec) -> None:
    """Two sizes, one damaged file, one of another model: each in its place."""
    pictures = [torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(i)) for i, size in enumerate(SIZES)]
    with torch.no_grad():
        files = [pack(codec, codec.analyze(x), PixelFormat(gray=i == 2)).data for i, x in enumerate(pictures)]
        other = tiny_codec(seed=5)
        files.insert(1, files[0][:-3])
        files.append(pack(other, other.analyze(pictures[0]), PixelFormat()).data)
    together = unpack_each(files, codec)
    assert isinstance(together[1], DamagedFile)
    assert isinstance(together[-1], WrongModel)
    for file, unpacked in zip(files, together, strict=True):
        if not isinstance(unpacked, CodingError):
            alone = unpack(file, codec)
            assert torch.allclose(alone.x_hat, unpacked.x_hat, atol=1e-5)
            assert alone.format == unpacked.format
    assert sum(isinstance(unpacked, CodingError) for unpacked in together) == 2


SIZES = ((40, 50), (30, 20), (40, 50), (40, 50))
