"""The backward pass of an integer network, with the same bits on every machine: optimisation that a decoder repeats.

    forward    integers through every step, as `lightning_modules/exact/network.py`; what entered each is kept
    backward   a layer's gradient is rounded to 16-bit integers times a power of two, and then goes through the same
               integer weights, transposed: sums of products are exact, and everything else is one operation a number

Rounding and clamping of activations count as the identity (a straight-through gradient); the unit of each layer's
gradient is chosen by its largest magnitude, which no order of evaluation can change.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.errors import CodingError
from lightning_modules.exact.network import LIMIT, Affine, ExactNetwork, Rectifier
from lightning_modules.exact.products import IntegerWeight, Product

Float64s = NDArray[np.float64]


class ExactGradient:
    """Both passes of a network of convolutions and rectifiers on the CPU, its sums evaluated by `product`.

    Raises CodingError for a network with other steps, or whose convolutions have a stride.
    """

    def __init__(self, network: ExactNetwork, product: Product) -> None:
        self.steps = network.steps
        self.product = product
        self._transposed = [_transposed(step) if isinstance(step, Affine) else None for step in network.steps]
        if not all(isinstance(step, Affine | Rectifier) for step in network.steps):
            raise CodingError("only convolutions and rectifiers have an exact gradient")

    @torch.no_grad()
    def forward(self, values: Tensor) -> list[Tensor]:
        """Return what enters each step of (B, C, H, W) integers in float64, and last what leaves the network."""
        passed = [values.clamp(-LIMIT, LIMIT - 1)]
        for step in self.steps:
            passed.append(step(passed[-1], self.product))
        return passed

    @torch.no_grad()
    def backward(self, passed: list[Tensor], gradient: Float64s) -> Float64s:
        """Return the gradient with respect to the input's integers, given that with respect to the output's."""
        for step, entered, weight in reversed(list(zip(self.steps, passed, self._transposed, strict=False))):
            if isinstance(step, Rectifier):
                slope = int(step.slope) / Rectifier.UNIT
                gradient = np.where(entered.numpy() >= 0, gradient, gradient * slope)
            else:
                assert isinstance(step, Affine)
                assert weight is not None
                gradient = self._through(step, weight, gradient)
        return gradient

    def _through(self, step: Affine, weight: IntegerWeight, gradient: Float64s) -> Float64s:
        scale = step.multiplier.double() * 2.0 ** -step.shift.double()
        integers, unit = to_integers(gradient * scale.numpy().reshape(-1, 1, 1))
        found: Float64s = self.product(torch.from_numpy(integers), weight).numpy() * unit
        return found


def to_integers(values: Float64s) -> tuple[Float64s, float]:
    """Values in units of a power of two, rounded to at most 16 bits, and that unit."""
    exponent = int(np.frexp(np.abs(values).max(initial=0.0))[1])
    unit = 2.0 ** (exponent - 15)
    return np.clip(np.rint(values / unit), -LIMIT, LIMIT - 1), unit


def _transposed(step: Affine) -> IntegerWeight:
    return IntegerWeight(step.weight, step.geometry.transposed())
