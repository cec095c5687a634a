"""Row 9: one step of refinement against the papers' loop.

CPU time, one picture of 512x768, the same network and picture on both sides. A network of 128 and 192 channels with
random weights, as in the papers' comparison: speed does not depend on the weights. Ours includes its share of the
true losses, one in fifty steps; the papers' loop evaluates at every step, as their code does.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measurement import Goal, Measurement, Pair, Settings, seconds, speed_up
from benchmarks.papers_refinement import PapersLoop
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.sga import frozen_codec
from lightning_modules.sga.methods import StochasticAnnealing
from lightning_modules.sga.noise import image_noise
from lightning_modules.sga.objective import Objective
from lightning_modules.sga.refinement import Course, Refinement
from lightning_modules.sga.rounding import atanh
from lightning_modules.sga.selection import Last
from lightning_modules.sga.temperature import delayed_exponential
from lightning_modules.training import learning_rate
from lightning_modules.training.rate_distortion import mse_255

NUMBER = 9
N, M = 128, 192
HEIGHT, WIDTH = 512, 768
LMBDA = 0.01
EVALUATE_EVERY = 50


def measure(settings: Settings) -> list[Measurement]:
    codec, x = codec_and_picture()
    sides = {
        "theirs": papers_step(codec, x),
        "float32": our_step(codec, x, frozen_codec.float32),
        "bfloat16": our_step(codec, x, frozen_codec.bfloat16),
        "evaluation": evaluation(codec, x),
    }
    rounds = timed_by_turns(sides, settings.rounds)
    return [
        speed_up(
            NUMBER,
            f"refinement step at {HEIGHT}x{WIDTH}, papers' loop over ours in {precision}",
            [Pair(r[precision] + r["evaluation"] / EVALUATE_EVERY, r["theirs"]) for r in rounds],
            Goal(">=", goal),
        )
        for precision, goal in (("float32", 1.7), ("bfloat16", 4.0))
    ]


def timed_by_turns(sides: dict[str, Callable[[], object]], rounds: int) -> list[dict[str, float]]:
    """CPU seconds of each side in each round, after one turn that warms up."""
    for side in sides.values():
        side()
    return [{name: seconds(side, time.process_time) for name, side in sides.items()} for _ in range(rounds)]


def codec_and_picture() -> tuple[HyperpriorCodec, Tensor]:
    torch.manual_seed(0)
    return HyperpriorCodec(N=N, M=M, lmbda=LMBDA).eval(), smooth_picture()


def smooth_picture() -> Tensor:
    """Return a picture (1, 3, HEIGHT, WIDTH) without sharp edges."""
    return torch.nn.functional.interpolate(torch.rand(1, 3, 8, 12), (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)


def our_step(codec: HyperpriorCodec, x: Tensor, make: frozen_codec.MakeStepCodec) -> Callable[[], None]:
    """Do a step of ours, from where the last one ended, without the true losses."""
    refinement = Refinement(
        method=StochasticAnnealing(atanh(), delayed_exponential(1e-3, 0.5, 700)),
        steps=10**9,
        lr=5e-3,
        schedule=learning_rate.constant(warmup=0),
        lmbda=LMBDA,
        evaluate_every=10**9,
        keep=Last,
        seconds=None,
        optimizer=functools.partial(torch.optim.Adam, eps=1e-8),
        distortion=mse_255,
        noise=functools.partial(image_noise, seed=0),
        step_codec=make,
    )
    return Course(refinement, codec, make(codec), Objective(x, LMBDA, mse_255), codec.analyze(x)).step


def papers_step(codec: HyperpriorCodec, x: Tensor) -> Callable[[], object]:
    """Do a step of theirs, from where the last one ended, with the evaluation that ends it."""
    loop, numbers = PapersLoop(codec, x, LMBDA), iter(range(10**9))
    return lambda: loop.step(next(numbers))


def evaluation(codec: HyperpriorCodec, x: Tensor) -> Callable[[], object]:
    """Compute one true loss."""
    objective, latents = Objective(x, LMBDA, mse_255), codec.analyze(x)
    return lambda: objective.evaluate(codec, latents)
