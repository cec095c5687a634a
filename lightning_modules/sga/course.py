"""One refinement under way: its optimizer, its place in the schedule, its trace, and what it keeps."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from lightning_modules.codec import CodingError, Latents, LatentVariableCodec, Quantizer, Synthesis
from lightning_modules.sga.objective import Objective
from lightning_modules.sga.trace import Record, Trace

if TYPE_CHECKING:
    from lightning_modules.sga.refinement import Refinement


class StepCodec(Protocol):
    """What a codec does in a step."""

    def generate_as_coded(self, latents: Latents, quantize: Quantizer) -> Synthesis: ...


class Course:
    """Steps from `start` until the schedule ends, or every image has enough; where gradients are recorded.

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
