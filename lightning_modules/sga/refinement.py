"""Refinement of the latents of given images with the codec's weights fixed (Yang et al. 2020, section 3).

    y, z = what the encoder network says
    at each step:  z~ = quantize(z), y~ = quantize(y), x_hat and likelihoods = codec.generate
                   Adam on lmbda * distortion + bpp, with respect to y and z
    now and then, and after the last step: the true loss of the hard-rounded latents

`quantize` is the method (`lightning_modules/sga/methods.py`); everything else is the same for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.codec import Codec, CodingError, Latents, LatentVariableCodec
from lightning_modules.memory_shortage import told_as
from lightning_modules.sga.course import Course, StepCodec
from lightning_modules.sga.distortion import Distortion
from lightning_modules.sga.keep import Keep
from lightning_modules.sga.methods import Method
from lightning_modules.sga.noise import Draw
from lightning_modules.sga.objective import Objective
from lightning_modules.sga.step_codec import MakeStepCodec
from lightning_modules.sga.trace import Listener, Trace


@dataclass
class Refinement:
    """An inference method: called with a codec and images (B, 3, H, W) in [0, 1], gives their refined latents.

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
        """From `start`, where gradients are recorded. step_codec: evaluates the steps; codec: the true losses."""
        course = Course(self, codec, step_codec, Objective(x, lmbda, self.distortion), start)
        self.trace = course.trace
        while not course.has_ended:
            course.step()
        return Latents(course.keeper.kept(), start.image_size)


@contextmanager
def recording_gradients(x: Tensor) -> Iterator[None]:
    """Gradients and float32, also within a trainer's inference mode or mixed precision.

    Raises `CodingError` when memory for pictures x (B, 3, H, W) runs out: a step keeps every activation.
    """
    height, width = x.shape[-2:]
    size = f"{height}x{width} pixels"
    with (
        told_as(f"not enough memory to refine {size}; refine it where there is more, or use inference=amortized"),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(x.device.type, enabled=False),
    ):
        yield
