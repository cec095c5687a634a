"""Transforms other than the papers': shapes, what weights tell of them, their files, and growing old models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.checkpoints.packaged_model import load_model, round_for_storage, save_model
from lightning_modules.codec import Codec
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.__main__ import grown, main
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.hyperprior.scale_codec import ScaleHyperpriorCodec
from lightning_modules.quantization import hard_round, uniform_noise
from lightning_modules.sga.bits_back.codec import BitsBackCodec
from lightning_modules.sga.codec import IntegerGridCodec

SETTINGS: list[dict[str, Any]] = [
    {"unshuffle": 1, "widths": [5, 6, 7], "blocks": [2, 1], "hyper_widths": [9, 11]},
    {"unshuffle": 2, "widths": [5, 6, 7], "blocks": [0, 2], "hyper_widths": [9, 11]},
    {"unshuffle": 4, "widths": [6, 8], "blocks": [0, 0], "hyper_widths": [12, 18]},
    {"unshuffle": 8, "widths": [8], "blocks": [1, 0], "hyper_widths": [9, 9]},
]
SIZES = [(1, 1), (3, 70), (65, 17), (64, 128)]


def made(settings: dict[str, Any], codec_class: Any = HyperpriorCodec) -> Any:
    torch.manual_seed(0)
    return codec_class(N=8, M=12, lmbda=0.01, transforms=settings).eval()


def image(size: tuple[int, int]) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: f"unshuffle{settings['unshuffle']}")
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_files_of_any_size_decode_to_what_was_estimated(settings: dict[str, Any], size: tuple[int, int]) -> None:
    codec = made(settings)
    latents = codec.analyze(image(size))
    assert latents.variables["y"].shape[2:] == (-(-size[0] // 16), -(-size[1] // 16))
    decoded = codec.decode(codec.encode(latents).sections, size)
    assert decoded.shape == (1, 3, *size)
    assert torch.equal(decoded, codec.estimate(latents).x_hat)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: f"unshuffle{settings['unshuffle']}")
@pytest.mark.parametrize("codec_class", [HyperpriorCodec, BitsBackCodec, IntegerGridCodec])
def test_the_shapes_of_weights_tell_the_transforms(settings: dict[str, Any], codec_class: type[Codec]) -> None:
    codec = made(settings, codec_class)
    again = codec_class.from_weights(codec.state_dict(), lmbda=0.01)
    assert again.hyperparameters == codec.hyperparameters == {"N": 8, "M": 12, "lmbda": 0.01, "transforms": settings}
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in codec.state_dict().items())


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: f"unshuffle{settings['unshuffle']}")
def test_a_packaged_model_is_the_same_codec_again(settings: dict[str, Any], tmp_path: Path) -> None:
    codec = made(settings)
    round_for_storage(codec)
    save_model(codec, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert again.hyperparameters == codec.hyperparameters
    with torch.no_grad():
        sections = codec.encode(codec.analyze(image((65, 80)))).sections
        assert torch.equal(again.decode(sections, (65, 80)), codec.decode(sections, (65, 80)))


def test_every_weight_but_the_quantiles_is_trained() -> None:
    codec = made(SETTINGS[0]).train()
    synthesis = codec.generate(codec.analyze(image((64, 64))), uniform_noise)
    (synthesis.x_hat.square().mean() - sum(p.log().mean() for p in synthesis.likelihoods.values())).backward()
    assert {name for name, p in codec.named_parameters() if p.grad is None} == {"entropy_bottleneck.quantiles"}


@torch.no_grad()
def test_a_fresh_codec_starts_at_gray_with_latents_above_the_rounding_noise() -> None:
    torch.manual_seed(0)
    settings = {"unshuffle": 4, "widths": [64, 128], "blocks": [1, 1], "hyper_widths": [96, 144]}
    codec = HyperpriorCodec(N=64, M=96, lmbda=0.01, transforms=settings)
    latents = codec.analyze(0.5 + 0.25 * torch.randn(2, 3, 64, 64))
    assert 0.5 < latents.variables["y"].std() < 8
    assert 0.3 < codec(torch.rand(2, 3, 64, 64))["x_hat"].mean() < 0.7


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"unshuffle": 3, "widths": [8], "blocks": [0, 0], "hyper_widths": [9, 9]}, "unshuffle 3"),
        ({"unshuffle": 4, "widths": [8], "blocks": [0, 0], "hyper_widths": [9, 9]}, "with 1 widths"),
        ({"unshuffle": 1, "widths": [8, 8, 8], "blocks": [0, 0], "hyper_widths": [9, 9]}, "transforms=papers"),
        ({"unshuffle": 4, "widths": [8, 8]}, "blocks, hyper_widths"),
    ],
)
def test_settings_that_give_no_network_are_refused_in_one_line(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(CodingError, match=line) as error:
        HyperpriorCodec(N=8, M=12, lmbda=0.01, transforms=wrong)
    assert "\n" not in str(error.value)


def test_the_scale_hyperprior_keeps_its_own_transforms() -> None:
    with pytest.raises(CodingError, match="leave transforms= out"):
        ScaleHyperpriorCodec(N=8, M=12, lmbda=0.01, transforms=SETTINGS[0])


@torch.no_grad()
def test_a_grown_codec_codes_as_before() -> None:
    torch.manual_seed(0)
    old = HyperpriorCodec(N=8, M=12, lmbda=0.01).eval()
    new = grown(old, M=20, blocks=(2, 1)).eval()
    latents, grown_latents = old.analyze(image((64, 96))), new.analyze(image((64, 96)))
    assert torch.allclose(grown_latents.variables["y"][:, :12], latents.variables["y"], atol=1e-5)
    assert grown_latents.variables["y"][:, 12:].abs().max() < 0.5
    before, after = old.generate(latents, hard_round), new.generate(grown_latents, hard_round)
    assert torch.allclose(after.x_hat, before.x_hat, atol=1e-3)
    assert torch.allclose(after.likelihoods["y"][:, :12], before.likelihoods["y"], atol=1e-3)
    assert after.likelihoods["y"][:, 12:].min() > 0.95


def test_growing_on_the_command_line_writes_a_state_dict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = HyperpriorCodec(N=8, M=12, lmbda=0.02).eval()
    save_model(old, tmp_path / "old.safetensors")
    assert main([str(tmp_path / "old.safetensors"), str(tmp_path / "start.pth"), "--M", "16"]) == 0
    codec = HyperpriorCodec.from_weights(torch.load(tmp_path / "start.pth"), lmbda=0.02)
    assert codec.hyperparameters["M"] == 16
    assert main([str(tmp_path / "old.safetensors"), str(tmp_path / "start.pth"), "--M", "8"]) == 1
    assert "is grown to M=8" in capsys.readouterr().err
