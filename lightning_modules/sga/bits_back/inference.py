"""The rows of bits-back: which y is coded, and how q(z | y_hat) is found (Yang et al. 2020, section 3.3, A5, A6, M2).

| row         | y_hat                              | q(z given y_hat)        |
|-------------|------------------------------------|-------------------------|
| `bb_plain`  | the encoder's, rounded             | h_a's answer            |
| `bb_no_sga` | the encoder's, rounded             | the local optimum of it |
| `bb_sga`    | refined by SGA, together with q    | the local optimum of it |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_modules.codec import Codec
from lightning_modules.errors import CodingError
from lightning_modules.quantization import Quantizer
from lightning_modules.records import Latents, Synthesis
from lightning_modules.sga.bits_back.codec import SEARCH, BitsBackCodec
from lightning_modules.sga.bits_back.posterior import MOST_STEPS, RATE_UNIT, Search
from lightning_modules.sga.noise import Draw
from lightning_modules.sga.refinement import Refinement, recording_gradients
from lightning_modules.sga.trace import Trace


def encoded(codec: Codec, x: Tensor, *, steps: int, lr: float) -> Latents:
    """Return the encoder network's y. steps: of the local optimum of q, by Adam of rate `lr`; 0 leaves h_a's answer."""
    return _latents(codec.analyze(x).variables["y"], (x.shape[-2], x.shape[-1]), search_of(steps, lr))


@dataclass
class TwoPhases:
    """An inference method: y, mean and log_variance are refined together; y is kept, and q is to be searched anew.

    The first phase sees the picture, the second, which is the receiver's as well, does not.
    """

    refinement: Refinement
    search: Search

    @property
    def trace(self) -> list[Trace]:
        """Return the traces of the first phase, whose true losses are those of h_a's q."""
        return self.refinement.trace

    def __call__(self, codec: Codec, x: Tensor) -> Latents:
        if not isinstance(codec, BitsBackCodec):
            raise CodingError(f"{type(codec).__name__} does not code z by bits-back; use inference=sga")
        settings = self.refinement
        lmbda = float(codec.hyperparameters["lmbda"]) if settings.lmbda is None else settings.lmbda
        with recording_gradients(x):
            codec.update()
            # z's noise must not repeat that of y: its generators are those of the negative
            step_codec = _Sampling(settings.step_codec(codec), settings.noise(1.0 - x))
            found = settings.refine(codec, step_codec, x.clone(), codec.analyze(x.clone()), lmbda)
        return _latents(found.variables["y"], found.image_size, self.search)


def two_phases(
    *, posterior_steps: int, posterior_lr: float, target_bpp: float | None, target_psnr: float | None, **settings: Any
) -> TwoPhases:
    """Make a `TwoPhases` of settings for `Refinement`. Raises `CodingError` for a target."""
    if target_bpp is not None or target_psnr is not None:
        raise CodingError("bits-back has no target_bpp or target_psnr; choose another lmbda=")
    return TwoPhases(Refinement(**settings), search_of(posterior_steps, posterior_lr))


def search_of(steps: int, lr: float) -> Search:
    """Make a `Search`. Raises `CodingError` for steps or rates that a file cannot store."""
    rate = round(lr / RATE_UNIT)
    if not 0 <= steps <= MOST_STEPS or not 0 < rate < 1 << 16:
        raise CodingError(f"{steps} steps of rate {lr} for q: give 0 to {MOST_STEPS} steps, and a rate below 1")
    return Search(steps, rate if steps else 0)


class _Sampling:
    """A codec for the steps, with samples of z made of each image's own noise."""

    def __init__(self, codec: Any, draw: Draw) -> None:
        self.codec, self.draw = codec, draw

    def generate_as_coded(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        synthesis: Synthesis = self.codec.generate_from(latents, quantize, self._normal)
        return synthesis

    def _normal(self, like: Tensor) -> Tensor:
        return torch.special.ndtri(self.draw(like))


def _latents(y: Tensor, image_size: tuple[int, int], search: Search) -> Latents:
    return Latents({"y": y, SEARCH: torch.tensor([search] * len(y))}, image_size)
