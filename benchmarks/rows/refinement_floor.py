"""Row 10: one step of refinement in float32 against the networks that it cannot do without.

CPU time, one picture of 512x768. The floor is a forward pass of g_s and h_s and a backward pass to their inputs, by
the codec's plain layers, without weight gradients; ours includes its share of the true losses, one in fifty steps. A
value below 1 says that the layers of a step are faster than the plain ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measurement import Goal, Measurement, Pair, Settings, relative_time
from benchmarks.rows.refinement_step import (
    EVALUATE_EVERY,
    HEIGHT,
    WIDTH,
    codec_and_picture,
    evaluation,
    our_step,
    timed_by_turns,
)
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.sga import frozen_codec

NUMBER = 10


def measure(settings: Settings) -> list[Measurement]:
    codec, x = codec_and_picture()
    codec.requires_grad_(False)
    sides = {
        "floor": networks_alone(codec, x),
        "step": our_step(codec, x, frozen_codec.float32),
        "evaluation": evaluation(codec, x),
    }
    rounds = timed_by_turns(sides, settings.rounds)
    pairs = [Pair(r["step"] + r["evaluation"] / EVALUATE_EVERY, r["floor"]) for r in rounds]
    what = f"refinement step at {HEIGHT}x{WIDTH} in float32 over g_s and h_s, forward and backward"
    return [relative_time(NUMBER, what, pairs, Goal("<=", 1.12))]


def networks_alone(codec: HyperpriorCodec, x: Tensor) -> Callable[[], None]:
    """Run g_s and h_s of a codec without weight gradients, forward and backward to their inputs."""
    latents = codec.analyze(x).variables
    inputs = [(codec.g_s, latents["y"].requires_grad_()), (codec.h_s, latents["z"].requires_grad_())]

    def run() -> None:
        for network, value in inputs:
            torch.autograd.grad(network(value).square().mean(), value)

    return run
