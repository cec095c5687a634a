"""The three rows: what they hand to the coder, and that each saves bits over the one before."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.sga.bits_back.codec import SEARCH, BitsBackCodec
from lightning_modules.sga.bits_back.inference import TwoPhases, encoded, search_of, two_phases
from lightning_modules.sga.methods import StochasticAnnealing
from lightning_modules.sga.rounding import atanh
from lightning_modules.sga.temperature import delayed_exponential
from lightning_modules.training.rate_distortion import mse_255
from tests.lightning_modules.sga.small_refinement import refinement


def phases(steps: int, **changes: Any) -> TwoPhases:
    first = refinement(
        method=StochasticAnnealing(atanh(), delayed_exponential(2e-2, 0.5, steps // 3)), steps=steps, **changes
    )
    settings = {field.name: getattr(first, field.name) for field in dataclasses.fields(first) if field.init}
    return two_phases(posterior_steps=20, posterior_lr=8e-3, target_bpp=None, target_psnr=None, **settings)


def test_plain_rows_keep_the_encoders_y(bits_back_codec: BitsBackCodec, picture: Tensor) -> None:
    latents = encoded(bits_back_codec, picture, steps=7, lr=5e-3)
    assert torch.equal(latents.variables["y"], bits_back_codec.analyze(picture).variables["y"])
    assert latents.variables[SEARCH].tolist() == [[7, 328]]


def test_sga_lowers_the_loss_of_the_coded_file(bits_back_codec: BitsBackCodec, x: Tensor) -> None:
    losses = []
    for inference in (functools.partial(encoded, steps=20, lr=8e-3), phases(50)):
        with torch.no_grad():
            latents = inference(bits_back_codec, x)
            net = bits_back_codec.encode(latents).accounts["net_monte_carlo"]
            mse = float(mse_255(x, bits_back_codec.estimate(latents).x_hat))
        losses.append(0.0025 * mse + net / (64 * 96))
    assert losses[1] < 0.985 * losses[0]


def test_the_first_phase_leaves_a_trace_and_the_second_its_settings(bits_back_codec: BitsBackCodec, x: Tensor) -> None:
    inference = phases(4, evaluate_every=2)
    latents = inference(bits_back_codec, x)
    assert [record.step for record in inference.trace[0]] == [0, 2, 4]
    assert set(latents.variables) == {"y", SEARCH}
    assert latents.variables[SEARCH].tolist() == [[20, 524]]


def test_a_picture_is_refined_the_same_at_each_call(bits_back_codec: BitsBackCodec, x: Tensor) -> None:
    first, second = (phases(4)(bits_back_codec, x).variables["y"] for _ in range(2))
    assert torch.equal(first, second)


def test_other_codecs_and_targets_are_refused(codec: HyperpriorCodec, x: Tensor) -> None:
    with pytest.raises(CodingError, match="inference=sga"):
        phases(2)(codec, x)
    with pytest.raises(CodingError, match="has no target_bpp"):
        two_phases(posterior_steps=1, posterior_lr=1e-3, target_bpp=0.1, target_psnr=None)


@pytest.mark.parametrize(("steps", "lr"), [(-1, 1e-3), (10**6, 1e-3), (10, 2.0), (10, 1e-9)])
def test_a_search_that_a_file_cannot_say_is_refused(steps: int, lr: float) -> None:
    with pytest.raises(CodingError, match="for q"):
        search_of(steps, lr)
