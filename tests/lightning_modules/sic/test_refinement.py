"""Latents of SIC are refined by the loop of another room, at a level, and what is coded is what was scored."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.coding.picture import pack, unpack
from lightning_modules.errors import CodingError
from lightning_modules.quantization import hard_round, straight_through
from lightning_modules.records import PixelFormat
from lightning_modules.sga.selection import Best
from lightning_modules.sic.codec import SicCodec
from lightning_modules.sic.decoding_options import Reading
from lightning_modules.training.rate_distortion import bits, mse_255
from tests.lightning_modules.sga.small_refinement import refinement
from tests.lightning_modules.sic.small_networks import pictures, small_codec

SIZE = (60, 100)
LMBDA = 1e-5
"""Nearly the rate alone: an untrained synthesis has little to refine."""


@pytest.fixture
def codec() -> SicCodec:
    codec = small_codec()
    codec.update()
    return codec


@pytest.mark.parametrize("level", [1, 3, 4])
def test_hard_rounding_gives_nearly_the_picture_and_the_rate_of_the_file(codec: SicCodec, level: int) -> None:
    """The same detail, around means that are not quite the same."""
    codec.reading = Reading(level=level)
    latents = codec.analyze(pictures(1, 3, *SIZE))
    synthesis, estimate = codec.generate(latents, hard_round), codec.estimate(latents)
    codec.reading = Reading(level=level, seed=1)
    another = codec.estimate(latents)
    distance, of_seeds = (float((x_hat - estimate.x_hat).abs().mean()) for x_hat in (synthesis.x_hat, another.x_hat))
    assert distance <= 0.3 * of_seeds
    assert (of_seeds == 0) == (level == 4)
    rate = sum(float(bits(likelihood)) for likelihood in synthesis.likelihoods.values())
    assert synthesis.likelihoods.keys() == estimate.bits.keys()
    assert sum(float(value) for value in estimate.bits.values()) == pytest.approx(rate, rel=0.05)


def test_what_a_level_does_not_code_has_no_gradient_and_costs_nothing(codec: SicCodec) -> None:
    codec.reading = Reading(level=2)
    latents = codec.analyze(pictures(1, 3, *SIZE))
    leaves = {name: value.clone().requires_grad_() for name, value in latents.variables.items()}
    synthesis = codec.generate(latents._replace(variables=leaves), straight_through)
    loss = synthesis.x_hat.square().sum() + torch.stack([bits(v).sum() for v in synthesis.likelihoods.values()]).sum()
    gradient, of_z = torch.autograd.grad(loss, [leaves["y"], leaves["z"]])
    assert (gradient[:, :6] != 0).any(dim=(0, 2, 3)).all()
    assert (gradient[:, 6:] == 0).all()
    assert (of_z != 0).any()


@pytest.mark.parametrize("level", [2, 4])
def test_refined_latents_are_better_and_survive_their_file(codec: SicCodec, level: int) -> None:
    codec.reading = Reading(level=level)
    x = pictures(2, 3, *SIZE)
    refine = refinement(steps=24, evaluate_every=8, lmbda=LMBDA, lr=0.05, keep=Best)
    latents = refine(codec, x)
    for image, trace, original in zip(latents.split(), refine.trace, x.split(1), strict=True):
        losses = [record.true_loss for record in trace]
        packed = pack(codec, image, PixelFormat())
        x_hat = unpack(packed.data, codec).x_hat
        loss = LMBDA * float(mse_255(original, x_hat)) + packed.estimated_bits / (SIZE[0] * SIZE[1])
        assert loss == pytest.approx(min(losses), rel=1e-4)
        assert min(losses) < 0.97 * losses[0]


def test_a_weight_is_asked_for(codec: SicCodec) -> None:
    with pytest.raises(CodingError, match=r"SicCodec was trained for no weight of its own; give inference\.lmbda="):
        refinement(steps=1)(codec, pictures(1, 3, *SIZE))
