"""Targets: a file, or a picture, within one percent of what was asked for; or one line that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from lightning_modules.coding.picture import pack, unpack
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.records import PixelFormat
from lightning_modules.sga import target_search
from lightning_modules.sga.distortion import PerceptualError, WeightedError, ms_ssim_error
from lightning_modules.sga.refinement import Course, Refinement
from lightning_modules.sga.selection import Best
from lightning_modules.sga.target_search import BPP, PSNR, TargetSearch, refinement
from lightning_modules.training.rate_distortion import mse_255
from tests.lightning_modules.sga.small_refinement import LMBDA, crop_of_photograph
from tests.lightning_modules.sga.small_refinement import refinement as small


@pytest.fixture(scope="module")
def crop() -> Tensor:
    """Large enough for one percent of its file to be several bytes."""
    return crop_of_photograph(60, 160, 96, 128)


@pytest.mark.parametrize("share", [0.85, 1.15])
def test_a_file_has_the_size_that_was_asked_for(codec: HyperpriorCodec, crop: Tensor, share: float) -> None:
    target = share * target_search.file_bpp(codec, crop, codec.analyze(crop))
    latents = TargetSearch(small(steps=100, evaluate_every=50), BPP, target)(codec, crop)
    size = len(pack(codec, latents, PixelFormat()).data)
    assert 8 * size / (96 * 128) == pytest.approx(target, rel=0.01)


def test_a_picture_has_the_quality_that_was_asked_for(codec: HyperpriorCodec, crop: Tensor) -> None:
    target = target_search.decoded_psnr(codec, crop, codec.analyze(crop)) + 0.8
    latents = TargetSearch(small(steps=100, evaluate_every=50), PSNR, target, tolerance=0.004)(codec, crop)
    x_hat, _ = unpack(pack(codec, latents, PixelFormat()).data, codec)
    levels = (x_hat.clamp(0, 1) * 255).round()
    psnr = 10 * torch.log10(255**2 / (levels - crop * 255).square().mean())
    assert float(psnr) == pytest.approx(target, rel=0.004)


def test_each_image_of_a_batch_reaches_the_target_by_itself(codec: HyperpriorCodec, crop: Tensor) -> None:
    images = torch.cat([crop, crop_of_photograph(0, 0, 96, 128)])
    search = TargetSearch(small(steps=50, evaluate_every=50), PSNR, 30.0, tolerance=0.02)
    latents = search(codec, images)
    assert len(search.trace) == 2
    for k in range(2):
        one = latents._replace(variables={name: value[k : k + 1] for name, value in latents.variables.items()})
        assert target_search.decoded_psnr(codec, images[k : k + 1], one) == pytest.approx(30.0, rel=0.02)


@pytest.mark.parametrize(("share", "far"), [(0.9, False), (0.7, True)])
def test_a_target_far_from_what_the_model_is_made_for_is_said(
    codec: HyperpriorCodec, crop: Tensor, share: float, far: bool, caplog: pytest.LogCaptureFixture
) -> None:
    target = share * target_search.file_bpp(codec, crop, codec.analyze(crop))
    TargetSearch(small(steps=50, evaluate_every=50), BPP, target)(codec, crop)
    assert ("this model is made for 0.005: another" in caplog.text) is far


def test_a_rate_out_of_reach_is_one_line_that_says_what_came_of_it(
    codec: HyperpriorCodec, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_search, "MOST_MORE_STEPS", 10)
    with pytest.raises(CodingError, match=r"target_bpp=30: this model came to .* only; choose one trained nearer"):
        TargetSearch(small(steps=10), BPP, 30.0)(codec, x)


@pytest.mark.parametrize(
    "changes", [{"target_bpp": 0.3, "target_psnr": 30.0}, {"target_bpp": 0.0}, {"target_psnr": -1.0}]
)
def test_targets_that_make_no_sense_are_refused(changes: dict[str, float]) -> None:
    settings = {name: value for name, value in vars(small()).items() if name != "trace"}
    with pytest.raises(CodingError, match="target_"):
        refinement(**settings, **changes)


def test_without_a_target_nothing_is_searched() -> None:
    settings = {name: value for name, value in vars(small()).items() if name != "trace"}
    assert isinstance(refinement(**settings), Refinement)
    assert isinstance(refinement(**settings, target_bpp=0.3), TargetSearch)


@pytest.mark.parametrize("share", [0.7, 1.3])
def test_lmbda_is_steered_towards_the_target_and_within_bounds(
    codec: HyperpriorCodec, x: Tensor, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    seen: list[float] = []
    step = Course.step

    def spied(course: Course) -> None:
        seen.append(course.objective.lmbda)
        step(course)

    monkeypatch.setattr(Course, "step", spied)
    target = share * target_search.file_bpp(codec, x, codec.analyze(x))
    TargetSearch(small(steps=20), BPP, target, tolerance=0.9)(codec, x)
    assert len(seen) == 20
    assert all((lmbda > LMBDA) == (share > 1) for lmbda in seen)
    assert all(1 / 101 < lmbda / LMBDA < 101 for lmbda in seen)


def test_the_latents_of_a_search_are_the_last_ones(codec: HyperpriorCodec, x: Tensor) -> None:
    search = TargetSearch(small(steps=10, keep=Best), PSNR, 29.0, tolerance=0.9)
    latents = search(codec, x)
    assert target_search.decoded_psnr(codec, x, latents) == pytest.approx(search.trace[0][-1].psnr, rel=1e-6)


# ---- other distortions


@pytest.fixture
def left_half(tmp_path: Path) -> str:
    """A mask of 64x96 pixels that lets only the left half count."""
    mask = Image.new("L", (96, 64), 0)
    mask.paste(255, (0, 0, 48, 64))
    mask.save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


def test_a_mask_weighs_errors_and_keeps_their_mean(left_half: str) -> None:
    error = WeightedError(left_half)
    x = torch.zeros(2, 3, 64, 96)
    x_hat = x.clone()
    x_hat[0, ..., :48] = 0.1
    x_hat[1, ..., 48:] = 0.1
    assert float(error(x, x + 0.1)[0]) == pytest.approx(0.01 * 255**2, rel=1e-5)
    assert error(x, x_hat).tolist() == pytest.approx([0.01 * 255**2, 0.0], rel=1e-5)


def test_what_a_mask_marks_is_kept_better(codec: HyperpriorCodec, x: Tensor, left_half: str) -> None:
    def halves(latents: Any) -> tuple[float, float]:
        error = (codec.estimate(latents).x_hat - x).square()
        return float(error[..., :48].mean()), float(error[..., 48:].mean())

    plain = halves(small(steps=30)(codec, x))
    masked = halves(small(steps=30, distortion=WeightedError(left_half))(codec, x))
    assert masked[0] < plain[0]
    assert masked[1] > plain[1]


def test_masks_that_do_not_fit_are_refused_by_name(x: Tensor, left_half: str, tmp_path: Path) -> None:
    with pytest.raises(CodingError, match=r"mask\.png: 64x96 pixels, the picture 32x32"):
        WeightedError(left_half)(x[..., :32, :32], x[..., :32, :32])
    with pytest.raises(CodingError, match="not a readable picture"):
        WeightedError(str(tmp_path / "missing.png"))(x, x)
    Image.new("L", (96, 64), 0).save(tmp_path / "black.png")
    with pytest.raises(CodingError, match="all black"):
        WeightedError(str(tmp_path / "black.png"))(x, x)


def test_ms_ssim_improves_when_it_is_the_distortion(codec: HyperpriorCodec) -> None:
    crop = crop_of_photograph(40, 120, 176, 176)
    refine = small(steps=12, evaluate_every=12, distortion=ms_ssim_error, lmbda=0.02)
    latents = refine(codec, crop)
    before, after = (codec.estimate(some).x_hat for some in (codec.analyze(crop), latents))
    assert float(ms_ssim_error(crop, after)) < float(ms_ssim_error(crop, before))


def test_lpips_falls_when_it_counts(codec: HyperpriorCodec, x: Tensor, shared: Path) -> None:
    weights = str(shared / "data/lpips_squeezenet/squeezenet1_1_fp16.pth")
    perceptual = PerceptualError(weight=2000.0, trunk="squeeze", weights=weights)
    plain, perceived = (
        codec.estimate(small(steps=30, distortion=distortion)(codec, x)).x_hat for distortion in (mse_255, perceptual)
    )
    assert float(perceptual.distance(x, perceived)) < float(perceptual.distance(x, plain))
    assert float(perceptual(x, perceived)) == pytest.approx(
        float(mse_255(x, perceived)) + 2000.0 * float(perceptual.distance(x, perceived)), rel=1e-6
    )


def test_ms_ssim_of_a_small_picture_is_refused(x: Tensor) -> None:
    with pytest.raises(CodingError, match="at least 161 pixels"):
        ms_ssim_error(x, x)
