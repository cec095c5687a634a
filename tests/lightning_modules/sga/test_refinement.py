"""The loop: what it lowers, what it leaves alone, what it tells, and where it stops."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.codec import amortized
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.quantization import hard_round
from lightning_modules.sga import methods, refinement, rounding, temperature
from lightning_modules.sga.adam import TensorFlowAdam
from lightning_modules.sga.objective import Objective
from lightning_modules.sga.selection import Best, FirstRise, Last
from lightning_modules.sga.trace import Trace
from lightning_modules.training.rate_distortion import mse_255
from tests.lightning_modules.sga.small_refinement import LMBDA, true_loss
from tests.lightning_modules.sga.small_refinement import refinement as small

SSL = methods.StochasticAnnealing(rounding.ssl(2.3), temperature.exponential(1e-3, 1.0))


def test_refinement_lowers_the_true_loss_by_several_percent(codec: HyperpriorCodec, x: Tensor) -> None:
    refine = small(steps=60, evaluate_every=60)
    refine(codec, x)
    first, last = refine.trace[0][0], refine.trace[0][-1]
    assert last.true_loss < 0.97 * first.true_loss


def test_what_the_trace_says_of_the_latents_is_what_their_file_decodes_to(codec: HyperpriorCodec, x: Tensor) -> None:
    refine = small()
    latents = refine(codec, x)
    coded = codec.encode(latents)
    x_hat = codec.decode(coded.sections, latents.image_size)
    estimate = codec.estimate(latents)
    last = refine.trace[0][-1]
    assert torch.equal(x_hat, estimate.x_hat)
    assert last.true_loss == pytest.approx(float(true_loss(estimate, x, LMBDA)), rel=1e-6)
    assert last.bpp == pytest.approx(sum(coded.bits.values()) / (64 * 96), rel=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        methods.Unrounded(),
        methods.UniformNoise(),
        methods.DeterministicAnnealing(rounding.atanh(), temperature.exponential(4e-3, 0.2)),
        methods.StochasticAnnealing(rounding.atanh(), temperature.delayed_exponential(1e-3, 0.5, 700)),
        methods.StochasticAnnealing(rounding.cosine3(0.98, 2.0), temperature.constant(0.5)),
    ],
    ids=lambda method: type(method).__name__,
)
def test_every_method_lowers_its_own_loss(codec: HyperpriorCodec, x: Tensor, method: methods.Method) -> None:
    refine = small(method=method, steps=40, evaluate_every=1)
    refine(codec, x)
    losses = [record.method_loss for record in refine.trace[0][1:]]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_straight_through_sees_what_is_coded(codec: HyperpriorCodec, x: Tensor) -> None:
    refine = small(method=methods.StraightThrough(), steps=1)
    refine(codec, x)
    with torch.no_grad():
        rounded = Objective(x, LMBDA, mse_255).method_loss(codec.generate_as_coded(codec.analyze(x), hard_round))
    assert refine.trace[0][1].method_loss == pytest.approx(float(rounded), rel=1e-5)


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_it_works_the_same_in_any_gradient_mode(
    codec: HyperpriorCodec, x: Tensor, inference_mode: bool, grad: bool
) -> None:
    outside = small(steps=2)(codec, x)
    with torch.inference_mode(inference_mode), torch.set_grad_enabled(grad):
        inside = small(steps=2)(codec, x.clone())
        codec.encode(inside)
    for name, value in inside.variables.items():
        assert torch.equal(value, outside.variables[name])
        assert not value.is_inference()
        assert not value.requires_grad


def test_latents_are_float32_and_of_the_sizes_that_the_encoder_gives(codec: HyperpriorCodec, x: Tensor) -> None:
    latents, given = small(steps=1)(codec, x), codec.analyze(x)
    assert latents.image_size == given.image_size
    for name, value in latents.variables.items():
        assert (value.shape, value.dtype) == (given.variables[name].shape, torch.float32)


def test_no_step_gives_the_amortized_latents(codec: HyperpriorCodec, x: Tensor) -> None:
    with torch.no_grad():
        given = amortized(codec, x)
    for name, value in small(steps=0)(codec, x).variables.items():
        assert torch.equal(value, given.variables[name])


def test_a_larger_lmbda_gives_more_bits_and_a_better_picture(codec: HyperpriorCodec, x: Tensor) -> None:
    low, high = small(lmbda=LMBDA / 3, steps=40), small(lmbda=LMBDA * 3, steps=40)
    low(codec, x), high(codec, x)
    assert low.trace[0][-1].bpp < high.trace[0][-1].bpp
    assert low.trace[0][-1].psnr < high.trace[0][-1].psnr


# ---- what is kept


def losses_offered(keeper: Any, losses: list[list[float]]) -> list[bool]:
    """Offer after evaluation k the latents k, k + 100, ... of the images; the keeper's answers."""
    return [
        keeper.offer(torch.tensor(row), {"y": torch.tensor([float(k), k + 100.0])[: len(row), None]})
        for k, row in enumerate(losses)
    ]


def test_last_keeps_the_last() -> None:
    keeper = Last()
    assert losses_offered(keeper, [[1.0], [5.0]]) == [True, True]
    assert keeper.kept()["y"].tolist() == [[1.0]]


def test_best_keeps_of_each_image_the_latents_of_least_loss() -> None:
    keeper = Best()
    assert losses_offered(keeper, [[3.0, 1.0], [2.0, 2.0], [4.0, 3.0]]) == [True] * 3
    assert keeper.kept()["y"].tolist() == [[1.0], [100.0]]


def test_first_rise_stops_each_image_by_itself() -> None:
    keeper = FirstRise()
    offered = [[3.0, 3.0], [2.0, 4.0], [1.0, 0.5], [1.5, 0.1]]
    assert losses_offered(keeper, offered) == [True, True, True, False]
    assert keeper.kept()["y"].tolist() == [[2.0], [100.0]], "the second rose first, and what came later does not count"


def test_kept_latents_are_not_those_that_go_on_changing() -> None:
    for keeper in (Last(), Best(), FirstRise()):
        value = torch.zeros(1, 2)
        keeper.offer(torch.tensor([1.0]), {"y": value})
        value += 1
        assert keeper.kept()["y"].tolist() == [[0.0, 0.0]]


def test_best_ends_no_worse_than_the_encoder_though_the_rate_is_far_too_high(codec: HyperpriorCodec, x: Tensor) -> None:
    refine = small(keep=Best, lr=1.0)
    latents = refine(codec, x)
    losses = [record.true_loss for record in refine.trace[0]]
    assert losses[-1] > losses[0]
    assert float(true_loss(codec.estimate(latents), x, LMBDA)) == pytest.approx(min(losses), rel=1e-6)


# ---- steps, time, listeners


def test_it_is_evaluated_before_the_first_step_every_so_often_and_after_the_last(
    codec: HyperpriorCodec, x: Tensor
) -> None:
    refine = small(steps=7, evaluate_every=3)
    refine(codec, x)
    assert [record.step for record in refine.trace[0]] == [0, 3, 6, 7]
    assert math.isnan(refine.trace[0][0].method_loss)


def test_listeners_hear_of_each_evaluation_and_how_much_is_done(codec: HyperpriorCodec, x: Tensor) -> None:
    heard: list[tuple[int, float]] = []

    def listener(traces: Any, share: float) -> None:
        heard.append((traces[0][-1].step, share))

    small(steps=4, evaluate_every=2, listeners=[listener])(codec, x)
    assert heard == [(0, 0.0), (2, 0.5), (4, 1.0)]


def test_within_a_time_budget_annealing_goes_by_the_clock(
    codec: HyperpriorCodec, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(0.0, 0.5)  # every look at the clock is half a second later
    monkeypatch.setattr(refinement, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    refine = small(steps=1000, seconds=20.0, evaluate_every=1000)
    refine(codec, x)
    first, last = refine.trace[0][0], refine.trace[0][-1]
    assert first.step == 0
    assert 5 < last.step < 40
    assert last.temperature < 0.45, "the schedule, which begins at 1, has come to an end all the same"


def test_the_rate_follows_its_schedule(codec: HyperpriorCodec, x: Tensor) -> None:
    start = codec.analyze(x).variables["y"].detach()
    moved = small(steps=3, schedule=lambda step: float(step == 0))(codec, x).variables["y"] - start
    once = small(steps=1)(codec, x).variables["y"] - start
    assert torch.equal(moved, once)


@pytest.mark.parametrize("changes", [{"steps": -1}, {"evaluate_every": 0}, {"lr": 0.0}, {"lmbda": -1.0}])
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CodingError, match=next(iter(changes))):
        small(**changes)


def test_a_divergence_is_one_line(codec: HyperpriorCodec, x: Tensor) -> None:
    with pytest.raises(CodingError, match=r"diverged before step 1; lower inference\.lr"):
        small(evaluate_every=1, distortion=lambda x, x_hat: x_hat.flatten(1).sum(1) * math.nan)(codec, x)


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_one_line(codec: HyperpriorCodec, x: Tensor, fault: Exception) -> None:
    def distortion(x: Tensor, x_hat: Tensor) -> Tensor:
        raise fault

    with pytest.raises(CodingError, match="not enough memory to refine 64x96 pixels"):
        small(distortion=distortion)(codec, x)


def test_faults_of_ours_are_not_taken_for_lack_of_memory(codec: HyperpriorCodec, x: Tensor) -> None:
    with pytest.raises(RuntimeError, match="size of tensor"):
        small(distortion=lambda x, x_hat: (x_hat[..., :3] - x).sum((1, 2, 3)))(codec, x)


# ---- the optimizer


def tensorflow_displacement(gradient: float, steps: int, lr: float, eps: float) -> float:
    """TensorFlow's documentation of Adam, with a constant gradient."""
    m = v = position = 0.0
    for t in range(1, steps + 1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        position += lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (math.sqrt(v) + eps)
    return position


@pytest.mark.parametrize(("gradient", "known"), [(1e-7, 0.0107), (1e-9, 1.7e-4)])
def test_the_tensorflow_form_of_adam_adds_epsilon_before_the_correction(gradient: float, known: float) -> None:
    value = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = TensorFlowAdam([value], 0.005)
    for _ in range(6):
        value.grad = torch.full_like(value, gradient)
        optimizer.step()
    moved = -float(value.detach())
    assert moved == pytest.approx(tensorflow_displacement(gradient, 6, 0.005, 1e-8), rel=1e-9)
    assert moved == pytest.approx(known, rel=0.02)


def test_the_two_forms_of_adam_move_latents_differently(codec: HyperpriorCodec, x: Tensor) -> None:
    start = codec.analyze(x).variables["y"].detach()
    torch_form = small(steps=3)(codec, x).variables["y"] - start
    tensorflow_form = small(steps=3, optimizer=TensorFlowAdam)(codec, x).variables["y"] - start
    # by far more on a whole photograph, whose gradients are a hundred times smaller
    assert float(tensorflow_form.abs().mean()) < 0.99 * float(torch_form.abs().mean())


def test_traces_are_those_of_the_last_call(codec: HyperpriorCodec, x: Tensor) -> None:
    refine = small(steps=1)
    refine(codec, x.repeat(2, 1, 1, 1))
    assert len(refine.trace) == 2
    refine(codec, x)
    traces: list[Trace] = refine.trace
    assert len(traces) == 1
