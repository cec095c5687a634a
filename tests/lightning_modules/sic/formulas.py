"""The formulas of a training pass a second time, in float64, with loops over groups, positions and samples.

The transforms (ga, gs, ha, hs) are taken as they are: their own tests check them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erfc, expit
from torch import Tensor

from lightning_modules.sic.level_schedule import LevelTable
from lightning_modules.sic.networks import SicNetworks
from lightning_modules.sic.training_pass import Coding, code
from tests.lightning_modules.sic.small_networks import pictures

Array = NDArray[np.float64]

SIDE = 64


class Example(NamedTuple):
    """A batch, the noise of its rates, and what `code` makes of both."""

    networks: SicNetworks
    x: Tensor
    z_noise: Tensor
    y_noise: Tensor
    coding: Coding

    def bpp_by_definition(self, values: Tensor) -> Array:
        """(L,) of the groups."""
        coding, groups = self.coding, self.networks.groups
        bits = y_bits(numpy(values), numpy(coding.scales), numpy(coding.means), groups)
        return bits / (len(self.x) * SIDE * SIDE)


def example_of(networks: SicNetworks, batch: int) -> Example:
    """In float64, but for the density of z, which is float32 everywhere."""
    networks.double().requires_grad_(False).entropy_bottleneck.float()
    x = pictures(batch, 3, SIDE, SIDE).double()
    generator = torch.Generator().manual_seed(5)
    z_noise = torch.rand(batch, networks.entropy_bottleneck.channels, 1, 1, generator=generator) - 0.5
    y_noise = torch.rand(batch, networks.channels, 4, 4, generator=generator, dtype=torch.float64) - 0.5
    return Example(networks, x, z_noise, y_noise, code(networks, x, z_noise))


def table(networks: SicNetworks) -> LevelTable:
    return LevelTable(levels=networks.groups, distortion=2048.0, perception=(32.0, 8.0), rate=(64.0, 1.0))


def numpy(value: Tensor) -> Array:
    return value.detach().double().numpy()


def distance(x: Tensor, x_hat: Tensor) -> Tensor:
    """Stands for LPIPS: any metric may be injected."""
    return (x.diff(dim=-1) - x_hat.diff(dim=-1)).abs().flatten(1).mean(1)


# ---- the formulas, a second time


def z_bits(networks: SicNetworks, z: Array) -> float:
    """Sum of -log2 of the cumulative's rise over a unit box (Balle et al. 2018, appendix 6.1)."""
    bottleneck = networks.entropy_bottleneck
    total = 0.0
    for channel in range(z.shape[1]):

        def cumulative(value: float, channel: int = channel) -> float:
            logits = np.array([[value]])
            for layer, matrix in enumerate(bottleneck.matrices):
                weight = np.log1p(np.exp(numpy(matrix)[channel]))
                logits = weight @ logits + numpy(bottleneck.biases[layer])[channel]
                if layer < 4:
                    logits = logits + np.tanh(numpy(bottleneck.factors[layer])[channel]) * np.tanh(logits)
            return float(expit(logits[0, 0]))

        for value in z[:, channel].ravel():
            total -= math.log2(max(1e-9, cumulative(value + 0.5) - cumulative(value - 0.5)))
    return total


def parameters(networks: SicNetworks, hyper: Array, y_hat: Array) -> tuple[Array, Array]:
    """Scales and means, (C, h, w), of one picture."""
    groups, width = networks.groups, networks.group_width
    channels, height, across = y_hat.shape
    weight, bias = (numpy(networks.context_model.layer.get_parameter(name)) for name in ("weight", "bias"))
    layers = [numpy(value) for value in networks.entropy_parameters.layer.parameters()]
    scales, means = np.zeros_like(y_hat), np.zeros_like(y_hat)
    for k in range(groups):
        own = slice(k * width, (k + 1) * width)
        rows = slice(2 * width * k, 2 * width * (k + 1))
        for i in range(height):
            for j in range(across):
                context = bias[rows].copy()
                for dy in range(5):
                    for dx in range(5):
                        a, b = i + dy - 2, j + dx - 2
                        if 0 <= a < height and 0 <= b < across:
                            context += weight[rows, : k * width, dy, dx] @ y_hat[: k * width, a, b]
                            if dy < 2 or (dy == 2 and dx < 2):
                                context += weight[rows, own, dy, dx] @ y_hat[own, a, b]
                value = np.concatenate([hyper[:channels][own, i, j], hyper[channels:][own, i, j], context])
                for layer in range(3):
                    matrix, offset = layers[2 * layer], layers[2 * layer + 1]
                    of_group = slice(k * len(matrix) // groups, (k + 1) * len(matrix) // groups)
                    value = matrix[of_group, :, 0, 0] @ value + offset[of_group]
                    value = np.where(value > 0, value, 0.01 * value) if layer < 2 else value
                scales[own, i, j], means[own, i, j] = value[:width], value[width:]
    return scales, means


def y_bits(values: Array, scales: Array, means: Array, groups: int) -> Array:
    """(B, C, h, w) -> (L,) bits of each group over the whole batch."""
    sigma = np.maximum(scales, float(np.float32(0.11)))  # as checkpoints store it
    distance = np.abs(values - means)
    upper, lower = (0.5 * erfc(-(edge - distance) / sigma / math.sqrt(2)) for edge in (0.5, -0.5))
    bits = -np.log2(np.clip(upper - lower, 1e-9, 1))
    return bits.reshape(len(bits), groups, -1).sum((0, 2))


def squares(a: Tensor, b: Tensor) -> float:
    return float(np.mean((numpy(a) - numpy(b)) ** 2))


def draws(example: Example, samples: int, level: int) -> Tensor:
    """Uniform numbers for the channels above a level."""
    batch, networks = len(example.x), example.networks
    shape = samples, batch, networks.channels - networks.group_width * level, 4, 4
    return torch.rand(*shape, generator=torch.Generator().manual_seed(level), dtype=torch.float64)


class Reference(NamedTuple):
    """Of the main phase: full = A and sampled = S(l), each without the rate, and the consistency's two terms."""

    full: float
    sampled: float
    shared: float
    detail: float
    pictures: list[Tensor]


def reference(example: Example, level: int, uniform: Tensor) -> Reference:
    """Sample by sample, by section 3 of the specification."""
    networks, coding, x = example.networks, example.coding, example.x
    s, samples = networks.group_width * level, len(uniform)
    y_hat = coding.y.round()
    synonyms = [torch.round(coding.hyper_means[:, s:] + 2 * (2 * u - 1)) for u in uniform]
    decoded = [networks.gs(y_hat).clamp(0, 1)]
    decoded += [networks.gs(torch.cat([y_hat[:, :s], detail], 1)).clamp(0, 1) for detail in synonyms]
    again = [networks.ga(picture) for picture in decoded]
    share = level / networks.groups
    full = 2048 * squares(x, decoded[0]) + 8 * float(distance(x, decoded[0]).mean())
    mse = np.mean([squares(x, picture) for picture in decoded[1:]])
    perceptual = np.mean([float(distance(x, picture).mean()) for picture in decoded[1:]])
    shared = squares(y_hat, again[0]) + sum(squares(y_hat[:, :s], y[:, :s]) for y in again[1:])
    detail = sum(squares(d, y[:, s:]) for d, y in zip(synonyms, again[1:], strict=True)) if share < 1 else 0.0
    sampled = 2048 * share * mse + 2 ** (5 - 2 * share) * perceptual
    return Reference(full, float(sampled), shared / (samples + 1), detail / (samples + 1), decoded)


def warm_up_loss(example: Example) -> float:
    """Of the first phase."""
    networks, coding, x = example.networks, example.coding, example.x
    decoded = networks.gs(coding.y.round()).clamp(0, 1)
    bpp = example.bpp_by_definition(coding.y + example.y_noise)
    z_bpp = z_bits(networks, numpy(networks.latents_of(x)[1] + example.z_noise)) / (len(x) * SIDE * SIDE)
    expected = 2048 * squares(x, decoded) + 8 * float(distance(x, decoded).mean())
    return float(expected + bpp.std(ddof=1) - bpp.min() + bpp.sum() + z_bpp)


def main_loss(example: Example, level: int, uniform: Tensor, alpha: float = 0.5) -> float:
    """Of the main phase after its first epochs."""
    expected = reference(example, level, uniform)
    noisy = example.bpp_by_definition(example.coding.y + example.y_noise)
    z_bpp, rate = float(example.coding.z_bpp), 2 ** (6 - 6 * level / example.networks.groups)
    total = alpha * (expected.full + noisy.sum() + z_bpp)
    total += (1 - alpha) * (expected.sampled + rate * (noisy[:level].sum() + z_bpp))
    return float(total + expected.shared + expected.detail)


def evenness(example: Example, level: int) -> float:
    """What the main phase adds in its first epochs."""
    rounded = example.bpp_by_definition(example.coding.y.round())
    return float(64 * rounded.std(ddof=1) - 4 * rounded[level - 1])
