"""Row 11: time to the true loss that 2000 steps of the papers' SGA reach, over the time they take.

CPU time, crops of real pictures, at most two of them, and the model that `--ckpt` names. Ours is the default: SGA+ with
SSL, in the precision that suits the processor. The second line compares the losses of equal methods, atanh and 2000
steps on both sides, over several seeds and one crop: no quality is given away for time.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.contenders import contenders, pictures
from benchmarks.measurement import Goal, Measurement, Pair, Settings, quartiles, relative_time
from benchmarks.papers_refinement import PapersLoop
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.sga.frozen_codec import Fastest
from lightning_modules.sga.methods import Method, StochasticAnnealing
from lightning_modules.sga.noise import image_noise
from lightning_modules.sga.objective import Objective
from lightning_modules.sga.refinement import Refinement
from lightning_modules.sga.rounding import atanh, ssl
from lightning_modules.sga.selection import Best
from lightning_modules.sga.temperature import delayed_exponential, exponential
from lightning_modules.sga.trace import Trace
from lightning_modules.training import learning_rate
from lightning_modules.training.rate_distortion import mse_255

NUMBER = 11
STEPS = 2000
EVALUATE_EVERY = 20
MOST_PICTURES = 2
SEEDS = 5
HEIGHT, WIDTH = 128, 192
SSL = StochasticAnnealing(ssl(2.3), exponential(1e-3, 1.0))
ATANH = StochasticAnnealing(atanh(), delayed_exponential(1e-3, 0.5, 700))


class Point(NamedTuple):
    """CPU seconds since the start, and the true loss then."""

    seconds: float
    loss: float


def measure(settings: Settings) -> list[Measurement]:
    codec = contenders(settings.ckpt).ours.eval()
    crops = [picture.x[..., :HEIGHT, :WIDTH] for picture in pictures(settings)[:MOST_PICTURES]]
    theirs = [papers_end(codec, x, seed=0) for x in crops]
    times = [
        Pair(first_below(our_course(codec, x, SSL, seed=0), reference.loss), reference.seconds)
        for x, reference in zip(crops, theirs, strict=True)
    ]
    ours = [our_course(codec, crops[0], ATANH, seed)[-1].loss for seed in range(SEEDS)]
    references = [theirs[0].loss, *(papers_end(codec, crops[0], seed).loss for seed in range(1, SEEDS))]
    ratios = [mine / reference for mine, reference in zip(ours, references, strict=True)]
    texts = (f"{fmean(ours):.4f}", f"{fmean(references):.4f}")
    what = f"true loss after {STEPS} steps of atanh SGA, ours over the papers' loop, {SEEDS} seeds"
    return [
        relative_time(NUMBER, f"time to the loss of {STEPS} steps of the papers' loop", times, Goal("<=", 0.25)),
        Measurement(NUMBER, what, fmean(ratios), quartiles(ratios), *texts, Goal("<=", 1.005)),
    ]


def papers_end(codec: HyperpriorCodec, x: Tensor, seed: int) -> Point:
    """Return what the papers' loop takes, and the true loss where it ends."""
    torch.manual_seed(seed)
    lmbda = codec.hyperparameters["lmbda"]
    start = time.process_time()
    loop = PapersLoop(codec, x, lmbda)
    for number in range(STEPS):
        loop.step(number)
    seconds = time.process_time() - start
    return Point(seconds, float(Objective(x, lmbda, mse_255).evaluate(codec, loop.latents).loss))


def our_course(codec: HyperpriorCodec, x: Tensor, method: Method, seed: int) -> list[Point]:
    """Return every evaluation of one refinement; its own cost counts."""
    points: list[Point] = []
    start = time.process_time()

    def listen(traces: Sequence[Trace], share: float) -> None:
        del share
        points.append(Point(time.process_time() - start, traces[0][-1].true_loss))

    refinement(method, listen, seed)(codec, x)
    return points


def first_below(points: Sequence[Point], loss: float) -> float:
    """Seconds until the loss is reached; infinite if it never is."""
    return next((point.seconds for point in points if point.loss <= loss), float("inf"))


def refinement(method: Method, listener: Callable[[Sequence[Trace], float], None], seed: int) -> Refinement:
    return Refinement(
        method=method,
        steps=STEPS,
        lr=5e-3,
        schedule=learning_rate.constant(warmup=0),
        lmbda=None,
        evaluate_every=EVALUATE_EVERY,
        keep=Best,
        seconds=None,
        optimizer=functools.partial(torch.optim.Adam, eps=1e-8),
        distortion=mse_255,
        noise=functools.partial(image_noise, seed=seed),
        step_codec=Fastest(),
        listeners=[listener],
    )
