"""The loop that ours is measured against minimises what ours does, and samples as the papers' codes do."""

from __future__ import annotations

import pytest
import torch

from benchmarks.papers_refinement import PapersLoop, atanh_logits, stacked_sample, temperature
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.quantization import hard_round
from lightning_modules.sga.objective import Objective
from lightning_modules.sga.rounding import atanh
from lightning_modules.sga.temperature import delayed_exponential
from lightning_modules.training.rate_distortion import mse_255

LMBDA = 0.01


@pytest.fixture(scope="module")
def loop() -> PapersLoop:
    torch.manual_seed(0)
    return PapersLoop(HyperpriorCodec(N=8, M=12, lmbda=LMBDA).eval(), torch.rand(1, 3, 64, 64), LMBDA)


def test_its_loss_is_ours(loop: PapersLoop) -> None:
    ours = Objective(loop.x, LMBDA, mse_255).method_loss(loop.codec.generate(loop.latents, hard_round))
    assert float(loop.loss(hard_round).detach()) == pytest.approx(float(ours.detach()), rel=1e-5)


def test_its_samples_have_the_mean_of_ours() -> None:
    value, zero = torch.full((100_000,), 0.3), torch.zeros(1)
    torch.manual_seed(0)
    theirs = stacked_sample(atanh_logits, 0.5)(value, zero).mean()
    ours = atanh().sample(value, 0.5, torch.rand_like).mean()
    assert float(theirs) == pytest.approx(float(ours), abs=5e-3)


def test_its_schedule_is_that_of_sga() -> None:
    schedule = delayed_exponential(1e-3, 0.5, 700)
    assert [temperature(step) for step in (0, 700, 1000, 1999)] == [schedule(step) for step in (0, 700, 1000, 1999)]


def test_a_step_moves_the_latents_and_leaves_weight_gradients(loop: PapersLoop) -> None:
    before = loop.latents.variables["y"].detach().clone()
    loop.step(0)
    assert not torch.equal(loop.latents.variables["y"], before)
    assert any(parameter.grad is not None for parameter in loop.codec.parameters())
