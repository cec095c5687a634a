"""The scale hyperprior (Balle et al. 2018), as CompressAI's `bmshj2018-hyperprior` has it: y without means.

h_a sees the magnitudes of y, ReLU stands for LeakyReLU, h_s is N channels wide and says scales alone. Here h_s has
M more rows, all zero, for the means of the mean-scale hyperprior: everything else, coding and format included, is the
same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.hyperprior.transforms import SCALES
from lightning_modules.records import ImageSize

LAST_OF_H_S = ("h_s.4.weight", "h_s.4.bias")


class ScaleHyperpriorCodec(HyperpriorCodec):
    """A hyperprior with N transform channels and M latent channels whose means are zero, and stay so in training."""

    codec_id = 4
    papers = SCALES

    def __init__(self, *, N: int, M: int, lmbda: float, transforms: Mapping[str, Any] | None = None) -> None:
        if transforms:
            raise CodingError("the scale hyperprior has the transforms of its paper alone; leave transforms= out")
        super().__init__(N=N, M=M, lmbda=lmbda)
        last = self.h_s[-1]
        with torch.no_grad():
            for name in ("weight", "bias"):
                last.get_parameter(name)[M:] = 0.0

    @classmethod
    def from_weights(cls, state: Mapping[str, Tensor], **hyperparameters: Any) -> HyperpriorCodec:
        """Make the codec of CompressAI's weights, or of our own, which have the zero rows."""
        rows = {name: state[name] for name in LAST_OF_H_S if name in state}
        M = len(state.get("g_s.0.weight", ()))
        widened = {
            name: F.pad(value, (0, 0) * (value.ndim - 1) + (0, M)) for name, value in rows.items() if len(value) == M
        }
        return super().from_weights({**state, **widened}, **hyperparameters)

    def coding_parameters(self, z_hat: Tensor, size: ImageSize) -> tuple[Tensor, Tensor]:
        """Return scales, and zero means without asking h_s, so that its rows for them get no gradient."""
        scales, _ = super().coding_parameters(z_hat, size)
        return scales, torch.zeros_like(scales)
