"""Refinement of the latents of given images with the codec's weights fixed (Yang et al. 2020, section 3).

    y, z = what the encoder network says
    at each step:  z~ = quantize(z), y~ = quantize(y), x_hat and likelihoods = codec.generate
                   Adam on lmbda * distortion + bpp, with respect to y and z
    now and then, and after the last step: the true loss of the hard-rounded latents

`quantize` is the method (`lightning_modules/sga/methods.py`); everything else is the same for all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.codec import Codec, LatentVariableCodec
from lightning_modules.errors import CodingError
from lightning_modules.quantization import Quantizer
from lightning_modules.records import Latents, Synthesis
from lightning_modules.sga.distortion import Distortion
from lightning_modules.sga.frozen_codec import MakeStepCodec
from lightning_modules.sga.methods import Method
from lightning_modules.sga.noise import Draw
from lightning_modules.sga.objective import Objective
from lightning_modules.sga.selection import Keep
from lightning_modules.sga.trace import Listener, Record, Trace
from lightning_modules.system.memory_shortage import as_coding_error


@dataclass
class Refinement:
    """An inference method: called with a codec and images (B, 3, H, W) in [0, 1], it returns their refined latents.

    steps: updates of each latent. lr: Adam's rate, times `schedule(step)`. lmbda: weight of the distortion; None:
    what the codec was trained for. evaluate_every: steps from one true loss to the next. keep: what is returned.
    seconds: at most about so long; the temperature then falls by the clock, so that annealing ends in time.
    optimizer: from latents and rate to an optimizer. noise: from images to their random numbers. listeners: told
    of each evaluation. trace: of the last call, one for each image.
    """

    method: Method
    steps: int
    lr: float
    schedule: Callable[[int], float]
    lmbda: float | None
    evaluate_every: int
    keep: Keep
    seconds: float | None
    optimizer: Callable[[Iterable[Tensor], float], Optimizer]
    distortion: Distortion
    noise: Callable[[Tensor], Draw]
    step_codec: MakeStepCodec
    listeners: Sequence[Listener] = ()
    trace: list[Trace] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.steps < 0 or self.evaluate_every < 1 or not self.lr > 0:
            raise CodingError(
                f"steps={self.steps}, evaluate_every={self.evaluate_every}, lr={self.lr}: "
                "a refinement needs at least 0 steps, 1 step between evaluations, and a rate above 0"
            )
        if self.lmbda is not None and not 0 <= self.lmbda < math.inf:
            raise CodingError(f"lmbda={self.lmbda}: a weight of at least 0, or null for the checkpoint's own")

    def __call__(self, codec: Codec, x: Tensor) -> Latents:
        if not isinstance(codec, LatentVariableCodec):
            raise CodingError(f"{type(codec).__name__} has no latents to refine; use inference=amortized")
        lmbda = codec.hyperparameters.get("lmbda") if self.lmbda is None else self.lmbda
        if lmbda is None:
            raise CodingError(f"{type(codec).__name__} was trained for no weight of its own; give inference.lmbda=")
        with recording_gradients(x):
            codec.update()
            return self.refine(codec, self.step_codec(codec), x.clone(), codec.analyze(x.clone()), float(lmbda))

    def refine(
        self,
        codec: LatentVariableCodec,
        step_codec: StepCodec,
        x: Tensor,
        start: Latents,
        lmbda: float,
    ) -> Latents:
        """Refine `start` where gradients are recorded. step_codec evaluates the steps, codec the true losses."""
        course = Course(self, codec, step_codec, Objective(x, lmbda, self.distortion), start)
        self.trace = course.trace
        while not course.has_ended:
            course.step()
        return Latents(course.keeper.kept(), start.image_size)


@contextmanager
def recording_gradients(x: Tensor) -> Iterator[None]:
    """Record gradients in float32, also within a trainer's inference mode or mixed precision.

    Raises `CodingError` when memory for pictures x (B, 3, H, W) runs out: a step keeps every activation.
    """
    height, width = x.shape[-2:]
    size = f"{height}x{width} pixels"
    with (
        as_coding_error(
            f"not enough memory to refine {size}; refine it where there is more, or use inference=amortized"
        ),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(x.device.type, enabled=False),
    ):
        yield


class StepCodec(Protocol):
    """The part of a codec that a step needs."""

    def generate_as_coded(self, latents: Latents, quantize: Quantizer) -> Synthesis: ...


class Course:
    """The steps of one refinement, from `start` until the schedule ends or every image has enough.

    step_codec: evaluates the steps. codec: the true losses, before the first step, now and then, and after the last.
    place: in the schedule, which is the number of steps done unless the clock leads. last_step: the place to end at.
    """

    def __init__(
        self,
        settings: Refinement,
        codec: LatentVariableCodec,
        step_codec: StepCodec,
        objective: Objective,
        start: Latents,
    ) -> None:
        self.settings = settings
        self.codec, self.step_codec = codec, step_codec
        self.objective = objective
        leaves = {name: value.detach().float().clone().requires_grad_() for name, value in start.variables.items()}
        self.latents = Latents(leaves, start.image_size)
        self.optimizer = settings.optimizer(list(leaves.values()), settings.lr)
        self.draw = settings.noise(objective.x)
        self.keeper = settings.keep()
        self.trace = [Trace() for _ in objective.x]
        self.start_time = time.monotonic()
        self.done = self.place = 0
        self.last_step = settings.steps
        self.has_enough = False
        self.evaluate(math.nan, torch.full((len(objective.x),), math.nan))

    @property
    def has_ended(self) -> bool:
        return self.has_enough or self.place >= self.last_step

    def step(self) -> None:
        """Update all latents once; evaluate them if it is time for that, or no other step follows."""
        settings, leaves = self.settings, list(self.latents.variables.values())
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * settings.schedule(self.place)
        quantizer = settings.method.quantizer(self.place, self.draw)
        losses = self.objective.method_loss(self.step_codec.generate_as_coded(self.latents, quantizer))
        gradients = torch.autograd.grad(losses.sum(), leaves)
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient
        self.optimizer.step()
        temperature = settings.method.temperature(self.place)
        self.done += 1
        self.place = self._next_place()
        if self.done % settings.evaluate_every == 0 or self.has_ended:
            self.evaluate(temperature, losses.detach())

    def evaluate(self, temperature: float, method_losses: Tensor) -> None:
        """Score the latents as they are now; tell the keeper and the listeners. method_losses: (B,)."""
        variables = self.latents.variables
        if not all(bool(torch.isfinite(value).all()) for value in variables.values()):
            raise CodingError(f"refinement diverged before step {self.done}; lower inference.lr")
        result = self.objective.evaluate(self.codec, self.latents)
        self.has_enough = not self.keeper.offer(result.loss, variables)
        seconds = time.monotonic() - self.start_time
        columns = torch.stack([column.cpu() for column in (method_losses, *result)])
        for trace, (method_loss, loss, bpp, psnr, psnr_float) in zip(self.trace, columns.T.tolist(), strict=True):
            trace.append(Record(self.done, temperature, method_loss, loss, bpp, psnr, psnr_float, seconds))
        for listener in self.settings.listeners:
            listener(self.trace, min(1.0, self.place / max(1, self.settings.steps)))

    def _next_place(self) -> int:
        if self.settings.seconds is None:
            return self.done
        elapsed = time.monotonic() - self.start_time
        return max(self.done, int(self.settings.steps * elapsed / self.settings.seconds))
