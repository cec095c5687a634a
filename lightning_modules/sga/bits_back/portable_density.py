"""The learned density of z with the same bits on every machine: CDF, and the slope of its negative logarithm.

The cumulative network of each channel (Balle et al. 2018, appendix 6.1), in float64, with sums written out term by
term. Its positive weights and bounded factors are worked out once, and stored with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.exact.numpy_functions import sigmoid, tanh

Float64s = NDArray[np.float64]


class PortableDensity(NamedTuple):
    """The cumulative networks of N channels, layer by layer, in float64.

    matrices: (N, d, c) > 0. biases: (N, d, 1). factors: (N, d, 1) in (-1, 1).
    """

    matrices: tuple[Float64s, ...]
    biases: tuple[Float64s, ...]
    factors: tuple[Float64s, ...]

    @classmethod
    def of(cls, bottleneck: EntropyBottleneck) -> PortableDensity:
        """Export trained weights, on the machine that makes the model."""
        with torch.no_grad():
            return cls(
                tuple(F.softplus(matrix.double()).cpu().numpy() for matrix in bottleneck.matrices),
                tuple(bias.double().cpu().numpy() for bias in bottleneck.biases),
                tuple(torch.tanh(factor.double()).cpu().numpy() for factor in bottleneck.factors),
            )

    def cdf(self, values: Float64s) -> Float64s:
        """Compute the CDF of every channel, (N, K), at values (K,)."""
        logits, _, _ = self._logits(np.broadcast_to(values, (len(self.biases[0]), len(values))))
        return sigmoid(logits)

    def surprise_slope(self, values: Float64s) -> Float64s:
        """Compute d/dz of -ln p(z), (N, K): (2 S(f) - 1) f' - f'' / f', f the logits of the CDF."""
        logits, slope, curvature = self._logits(values)
        found: Float64s = (2.0 * sigmoid(logits) - 1.0) * slope - curvature / slope
        return found

    def _logits(self, values: Float64s) -> tuple[Float64s, Float64s, Float64s]:
        """Compute logits and their first two derivatives, (N, K) each."""
        units = [(values, np.ones_like(values), np.zeros_like(values))]
        for k, matrix in enumerate(self.matrices):
            units = [self._unit(units, matrix[:, d], self.biases[k][:, d]) for d in range(matrix.shape[1])]
            if k < len(self.factors):
                units = [_bent(*unit, self.factors[k][:, d]) for d, unit in enumerate(units)]
        return units[0]

    @staticmethod
    def _unit(
        units: list[tuple[Float64s, Float64s, Float64s]], weights: Float64s, bias: Float64s
    ) -> tuple[Float64s, Float64s, Float64s]:
        """Evaluate one unit of the next layer. weights: (N, c). bias: (N, 1)."""
        total, first, second = (weights[:, :1] * part for part in units[0])
        for c in range(1, len(units)):
            total, first, second = (
                part + weights[:, c : c + 1] * more for part, more in zip((total, first, second), units[c], strict=True)
            )
        return total + bias, first, second

    def state(self) -> dict[str, Tensor]:
        return {
            f"{name}.{k}": torch.from_numpy(values.copy())
            for name, layers in self._asdict().items()
            for k, values in enumerate(layers)
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> PortableDensity:
        """Invert `state`. Raises `KeyError` when a layer is missing."""
        counts = {name: sum(key.startswith(f"{name}.") for key in state) for name in cls._fields}
        layers = {name: tuple(state[f"{name}.{k}"].numpy() for k in range(n)) for name, n in counts.items()}
        if not counts["matrices"] == counts["biases"] == counts["factors"] + 1 > 1:
            raise KeyError("a density has a matrix and a bias for each layer, and a factor for all but the last")
        return cls(**layers)


def _bent(value: Float64s, first: Float64s, second: Float64s, factor: Float64s) -> tuple[Float64s, Float64s, Float64s]:
    """Compute v + factor tanh(v), with derivatives."""
    curve = tanh(value)
    rise = factor * (1.0 - curve * curve)
    return value + factor * curve, first * (1.0 + rise), second * (1.0 + rise) - 2.0 * rise * curve * first * first
