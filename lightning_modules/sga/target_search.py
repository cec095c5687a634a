"""The search for a wanted rate or quality: per image, lmbda is steered during its refinement until that is reached.

    every few steps: measure the file, or the picture; error = measured / target - 1
                     ln(lmbda) = integral - PROPORTIONAL * error / slope;  the integral falls by a share of that
    after the last:  go on, at the low temperatures where the schedule has ended, until the error is small enough

Bits grow roughly as a power of lmbda and PSNR with its logarithm (`slope`), so a usual slope gives the first guess.
Latents follow lmbda with a lag of about a hundred steps, as rates of Adam limit them: the search is a control loop, and
one refinement long, where bisection over whole refinements would be ten.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_modules.codec import Codec, LatentVariableCodec
from lightning_modules.coding.picture import pack
from lightning_modules.errors import CodingError
from lightning_modules.records import Latents, PixelFormat
from lightning_modules.sga.objective import Objective
from lightning_modules.sga.refinement import Course, Refinement, recording_gradients
from lightning_modules.sga.selection import Last
from lightning_modules.sga.trace import Trace
from lightning_modules.training.rate_distortion import mse_255

LEAST_CHUNK = 10
CHUNKS = 40
"""The error is measured so many times within the schedule, but not more often than each `LEAST_CHUNK` steps."""

PROPORTIONAL = 8.0
MOST_PROPORTIONAL = 1.5
"""In ln(lmbda): a large error says that latents lag, not that lmbda is wrong by so much."""

INTEGRAL = 0.02
"""Per step: with a lag of a hundred steps or more, and `PROPORTIONAL`, a quick answer that does not swing."""

INTEGRAL_AFTER = 0.2
"""After the schedule, where latents hardly move any more, and where a swing does no harm: it ends at the target."""

AIM = 0.8
"""Share of the tolerance at which an error is small enough."""

MOST_MORE_STEPS = 500
"""After the schedule; or as many as it has, if that is more."""

WIDEST = math.log(100.0)
"""How far from the codec's own lmbda, as a factor, it is steered."""

FAR = 3.0
"""Factor on the codec's own lmbda beyond which another model is worth a line."""

LOG = logging.getLogger(__name__)

Measure = Callable[[LatentVariableCodec, Tensor, Latents], float]
"""(codec, x, latents of one image) -> what is to reach the target."""


class Quantity(NamedTuple):
    """A quantity that a target is given for. slope: its usual change per unit of ln(lmbda), as a share of itself."""

    name: str
    measure: Measure
    slope: float


def file_bpp(codec: LatentVariableCodec, x: Tensor, latents: Latents) -> float:
    """Measure bits per pixel of the whole file, alpha and colour profile apart."""
    return 8 * len(pack(codec, latents, PixelFormat()).data) / (x.shape[-2] * x.shape[-1])


def decoded_psnr(codec: LatentVariableCodec, x: Tensor, latents: Latents) -> float:
    """Measure the PSNR of decoded 8-bit pixels in dB."""
    return float(Objective(x, 0.0, mse_255).evaluate(codec, latents).psnr)


BPP = Quantity("target_bpp", file_bpp, 0.5)
PSNR = Quantity("target_psnr", decoded_psnr, 0.07)


def refinement(
    *, target_bpp: float | None = None, target_psnr: float | None = None, **settings: Any
) -> Refinement | TargetSearch:
    """Make a `Refinement`, or the search for one that reaches a target. Raises `CodingError` for two targets."""
    refine = Refinement(**settings)
    if target_bpp is not None and target_psnr is not None:
        raise CodingError(f"target_bpp={target_bpp} and target_psnr={target_psnr}: give one of them")
    if target_bpp is not None:
        return TargetSearch(refine, BPP, target_bpp)
    return refine if target_psnr is None else TargetSearch(refine, PSNR, target_psnr)


@dataclass
class TargetSearch:
    """An inference method: the refined latents of each image at `target`, within `tolerance` as a share of it.

    What is kept is what reaches the target last, whatever the refinement's own `keep`. Raises `CodingError` when no
    lmbda reaches it: this model is not made for that rate. trace: of the last call, one for each image.
    """

    refinement: Refinement
    quantity: Quantity
    target: float
    tolerance: float = 0.01
    trace: list[Trace] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.target < math.inf:
            raise CodingError(f"{self.quantity.name}={self.target}: give a number above 0")

    def __call__(self, codec: Codec, x: Tensor) -> Latents:
        if not isinstance(codec, LatentVariableCodec):
            raise CodingError(f"{type(codec).__name__} has no latents to refine; use inference=amortized")
        with recording_gradients(x):
            codec.update()
            found, self.trace = [], []
            for image in x.clone().split(1):
                found.append(_Search(self, codec, image).run())
                self.trace += self.refinement.trace
        names = found[0].variables
        together = {name: torch.cat([latents.variables[name] for latents in found]) for name in names}
        return Latents(together, found[0].image_size)


class _Search:
    """The search for one image. integral: the part of ln(lmbda) in which an error of the past counts for good."""

    def __init__(self, settings: TargetSearch, codec: LatentVariableCodec, x: Tensor) -> None:
        self.settings, self.codec, self.x = settings, codec, x
        self.refinement = dataclasses.replace(settings.refinement, keep=Last)
        start = codec.analyze(x)
        self.own = math.log(settings.refinement.lmbda or float(codec.hyperparameters["lmbda"]))
        self.integral = self.own - self._error(start) / settings.quantity.slope
        objective = Objective(x, math.exp(self._bounded(self.integral)), settings.refinement.distortion)
        self.course = Course(self.refinement, codec, settings.refinement.step_codec(codec), objective, start)
        settings.refinement.trace = self.course.trace

    def run(self) -> Latents:
        whole = self.refinement.steps
        chunk = max(LEAST_CHUNK, whole // CHUNKS)
        while self.course.place < whole:
            self._advance(min(chunk, whole - self.course.place), INTEGRAL)
        limit = self.course.done + max(MOST_MORE_STEPS, whole)
        while abs(error := self._error(self.course.latents)) > AIM * self.settings.tolerance:
            if self.course.done >= limit:
                self._require(error)
                break
            self._advance(LEAST_CHUNK, INTEGRAL_AFTER)
        self._tell_if_far()
        return Latents(self.course.keeper.kept(), self.course.latents.image_size)

    def _advance(self, steps: int, gain: float) -> None:
        """Take some steps at the lmbda that the last error asks for."""
        correction = self._error(self.course.latents) / self.settings.quantity.slope
        self.integral = self._bounded(self.integral - min(2.0, gain * steps) * correction)
        proportional = max(-MOST_PROPORTIONAL, min(MOST_PROPORTIONAL, PROPORTIONAL * correction))
        lmbda = math.exp(self._bounded(self.integral - proportional))
        self.course.objective = self.course.objective._replace(lmbda=lmbda)
        self.course.last_step = self.course.place + steps
        while not self.course.has_ended:
            self.course.step()

    def _error(self, latents: Latents) -> float:
        """Return what is reached beyond the target, as a share of it."""
        return self.settings.quantity.measure(self.codec, self.x, latents) / self.settings.target - 1

    def _bounded(self, place: float) -> float:
        return max(self.own - WIDEST, min(self.own + WIDEST, place))

    def _tell_if_far(self) -> None:
        lmbda, own = (math.exp(self._bounded(place)) for place in (self.integral, self.own))
        if max(lmbda / own, own / lmbda) > FAR:
            quantity, target = self.settings.quantity, self.settings.target
            LOG.warning(
                f"{quantity.name}={target:g} took lmbda={lmbda:.2g}, but this model is made for {own:.2g}: "
                "another, chosen with ckpt= or lmbda=, does better there"
            )

    def _require(self, error: float) -> None:
        quantity, target = self.settings.quantity, self.settings.target
        if abs(error) > self.settings.tolerance:
            raise CodingError(
                f"{quantity.name}={target:g}: this model came to {target * (1 + error):.4g} only; "
                "choose one trained nearer to it with ckpt= or lmbda="
            )
