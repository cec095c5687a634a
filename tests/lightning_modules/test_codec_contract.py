"""What every codec owes, asked of each class that a file of conf/module/ names: a new paper is asked as well."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor

from lightning_modules import capabilities
from lightning_modules.codec import Codec, LatentVariableCodec
from lightning_modules.coding.picture import pack, unpack, unpack_each
from lightning_modules.errors import CodingError
from lightning_modules.records import PixelFormat

CONF = Path(__file__).resolve().parents[2] / "conf"
ABILITIES = "lightning_modules.capabilities"
SIZES = [(1, 1), (33, 47), (64, 96)]


def codec_settings() -> dict[str, Any]:
    """Return a tiny configuration of each codec, by the first module that names it; equal ones once."""
    found: dict[str, Any] = {}
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for path in sorted(CONF.glob("module/*.yaml")):
            cfg = hydra.compose("config", [f"module={path.stem}", "debug=tiny"])
            settings = OmegaConf.to_container(cfg.module.codec, resolve=True)
            if settings not in found.values():
                found[path.stem] = settings
    GlobalHydra.instance().clear()
    return found


SETTINGS = codec_settings()


@pytest.fixture(scope="module", params=list(SETTINGS))
def codec(request: pytest.FixtureRequest) -> Codec:
    torch.manual_seed(0)
    return hydra.utils.instantiate(SETTINGS[request.param], _convert_="all").eval()


def picture(size: tuple[int, int], seed: int = 0) -> Tensor:
    """Return smooth colours with some noise, in steps of 1/255: (1, 3, *size)."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    ramp = torch.linspace(0.1, 0.8, height)[:, None] * torch.linspace(0.3, 1.0, width)
    noise = 0.1 * torch.rand(3, height, width, generator=generator)
    return ((ramp + noise)[None].clamp(0, 1) * 255).round() / 255


@torch.no_grad()
def file_of(codec: Codec, x: Tensor) -> bytes:
    return pack(codec, codec.analyze(x), PixelFormat()).data


def bf16() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_goes_in_and_comes_out_the_same_way_every_time(codec: Codec, size: tuple[int, int]) -> None:
    data = file_of(codec, picture(size))
    x_hat = unpack(data, codec).x_hat
    assert x_hat.shape == (1, 3, *size)
    assert x_hat.dtype == torch.float32
    assert not x_hat.requires_grad
    assert bool(torch.isfinite(x_hat).all())
    assert torch.equal(unpack(data, codec).x_hat, x_hat)


def test_mixed_precision_changes_neither_files_nor_pictures(codec: Codec) -> None:
    x = picture((33, 47))
    data = file_of(codec, x)
    for mode in (bf16, nullcontext):
        with mode():
            assert file_of(codec, x) == data
            assert torch.equal(unpack(data, codec).x_hat, unpack_each([data], codec)[0].x_hat)  # type: ignore[union-attr]
    with bf16():
        under = unpack(data, codec).x_hat
    assert torch.equal(under, unpack(data, codec).x_hat)


def test_the_coding_path_records_no_gradients_whoever_calls_it(codec: Codec) -> None:
    estimate = codec.estimate(codec.analyze(picture((16, 16))))  # with gradients to the weights, as in training
    assert not estimate.x_hat.requires_grad
    assert not any(bits.requires_grad for bits in estimate.bits.values())


def test_the_estimate_is_of_the_file(codec: Codec) -> None:
    x = picture((64, 96))
    with torch.no_grad(), bf16():
        latents = codec.analyze(x)
        estimate = codec.estimate(latents)
        packed = pack(codec, latents, PixelFormat())
    assert set(estimate.bits)
    if isinstance(codec, LatentVariableCodec):
        assert torch.equal(unpack(packed.data, codec).x_hat, estimate.x_hat)
        bits = sum(float(value.sum()) for value in estimate.bits.values())
        assert bits == pytest.approx(packed.estimated_bits, rel=1e-6)


def test_files_decoded_together_are_those_decoded_alone(codec: Codec) -> None:
    pictures = [picture((33, 47), 1), picture((16, 16), 2), picture((33, 47), 3)]
    files = [file_of(codec, x) for x in pictures]
    for data, together in zip(files, unpack_each(files, codec), strict=True):
        assert not isinstance(together, CodingError)
        assert torch.allclose(unpack(data, codec).x_hat, together.x_hat, atol=1e-5)


def test_a_flipped_bit_anywhere_is_refused(codec: Codec) -> None:
    data = file_of(codec, picture((33, 47)))
    for place in range(0, len(data), max(1, len(data) // 24)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        with pytest.raises(CodingError):
            unpack(bytes(damaged), codec)


def test_weights_that_are_not_finite_make_no_file(codec: Codec) -> None:
    x = picture((16, 16))
    name, parameter = next((name, one) for name, one in codec.named_parameters() if one.ndim > 1)
    kept = parameter.detach().clone()
    with torch.no_grad():
        parameter.view(-1)[0] = float("nan")
    try:
        with pytest.raises(CodingError, match="not finite"):
            file_of(codec, x)
    finally:
        with torch.no_grad():
            parameter.copy_(kept)
    assert name
    assert file_of(codec, x)


def test_a_codec_inherits_from_the_class_of_every_ability_it_has(codec: Codec) -> None:
    abilities = [one for one in vars(capabilities).values() if isinstance(one, type) and one.__module__ == ABILITIES]
    assert len(abilities) > 5
    for ability in abilities:
        names = {name for name in {**vars(ability), **ability.__annotations__} if not name.startswith("_")}
        has = any(hasattr(type(codec), name) for name in names)
        assert has == isinstance(codec, ability), ability.__name__
