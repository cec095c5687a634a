"""From a trained float network to its integer form: choose the units, round the weights, prove the bounds.

Each activation gets a power-of-two unit, fine enough to use the 16 bits that examples of the input leave it; each
output channel of a layer gets its own step of weights, so that all its 8 bits are used.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from compressai.layers import GDN
from torch import Tensor, nn

from lightning_modules.errors import CodingError
from lightning_modules.exact.network import (
    EXACT,
    LIMIT,
    OUTPUT_LIMIT,
    TABULATED,
    Affine,
    ExactNetwork,
    Rectifier,
    Step,
    step_from,
)
from lightning_modules.exact.products import Geometry, geometry_of

WEIGHT_BITS = 8


MULTIPLIER_BITS = 15


BIAS_BITS = 30


EXAMPLES = 32


EXAMPLE_SIDE = 6
"""How many examples of z `likely_symbols` draws, and their height and width."""

FINEST_BITS = 30
"""An output channel's unit of weights counts at least 2^-FINEST_BITS of its output's unit."""

MARGIN = 2.0
"""Room above the largest magnitude that the examples show, before an activation is clamped."""

MAX_FRACTION = 24


@torch.no_grad()
def export(network: nn.Sequential, examples: Tensor, output_fractions: Tensor) -> ExactNetwork:
    """Return the integer form of `network`.

    examples: typical inputs, (B, C, H, W) or (B, C). output_fractions: (D,) fractional bits of each output channel;
    the last layer must be a convolution or linear. Raises CodingError for a layer without exact form, or one whose
    sums could leave the exact range.
    """
    layers = list(copy.deepcopy(network).double().cpu())
    if geometry_of(layers[-1]) is None:
        raise CodingError(f"an exact network ends with a convolution or linear layer, not {type(layers[-1]).__name__}")
    values = examples.detach().cpu().double()
    fractions = [fraction_for(values)]
    steps: list[Step] = []
    for layer in layers:
        values = layer(values)
        last = layer is layers[-1]
        fraction = output_fractions.to(torch.int32) if last else fraction_after(layer, fractions[-1], values)
        try:
            steps.append(
                step_from(layer, integers(layer, int(fractions[-1]), fraction), OUTPUT_LIMIT if last else LIMIT)
            )
        except ValueError as error:
            raise CodingError(f"layer {len(steps)}, {type(layer).__name__}: {error}") from error
        fractions.append(fraction)
    return ExactNetwork(steps, fractions)


def fraction_for(values: Tensor) -> Tensor:
    """Fractional bits with which 16 bits hold MARGIN times the largest of `values`, as an int32 scalar."""
    largest = MARGIN * float(values.abs().max())
    if not math.isfinite(largest):
        raise CodingError("the network's values are not finite, its training diverged; take an earlier checkpoint")
    finest = MAX_FRACTION if largest == 0 else min(MAX_FRACTION, math.floor(math.log2(LIMIT / largest)))
    return torch.tensor(finest, dtype=torch.int32)


def fraction_after(layer: nn.Module, fraction: Tensor, values: Tensor) -> Tensor:
    """Rectifiers keep their input's unit; every other layer gets the one that suits its output."""
    return fraction if isinstance(layer, nn.ReLU | nn.LeakyReLU) else fraction_for(values)


def integers(layer: nn.Module, fraction: int, output_fraction: Tensor) -> dict[str, Tensor]:
    """Return the state of the layer's integer form; empty for a layer that has none."""
    geometry = geometry_of(layer)
    if geometry is not None:
        return _affine(layer, geometry, fraction, output_fraction.double())
    if isinstance(layer, nn.ReLU):
        return {"slope": torch.tensor(0, dtype=torch.int32)}
    if isinstance(layer, nn.LeakyReLU):
        return {"slope": torch.tensor(round(layer.negative_slope * Rectifier.UNIT), dtype=torch.int32)}
    if isinstance(layer, TABULATED):
        return _table(layer, fraction, int(output_fraction))
    if isinstance(layer, GDN):
        return _normalization(layer, fraction, int(output_fraction))
    return {}


def float_weights(exact: ExactNetwork) -> dict[str, Tensor]:
    """Return the float32 weights and biases that the integers of convolutions and linear layers stand for, by name."""
    weights: dict[str, Tensor] = {}
    for i, step in enumerate(exact.steps):
        if isinstance(step, Affine):
            weight, bias = float_layer(step, exact.fractions[i], exact.fractions[i + 1])
            weights |= {f"{i}.weight": weight, f"{i}.bias": bias}
    return weights


def float_layer(step: Affine, fraction: Tensor, output_fraction: Tensor) -> tuple[Tensor, Tensor]:
    """Return the float32 weight and bias that a layer's integers stand for, between activations of these fractions."""
    unit = step.multiplier.double() * 2.0 ** (fraction.double() - output_fraction.double() - step.shift.double())
    rows = step.geometry.output_first(step.weight.double())
    weight = step.geometry.input_first(rows * unit.reshape(-1, *[1] * (rows.ndim - 1)))
    bias = step.bias.double() * unit * 2.0 ** -fraction.double()
    return weight.float(), bias.float()


def _affine(layer: nn.Module, geometry: Geometry, fraction: int, output_fraction: Tensor) -> dict[str, Tensor]:
    """Each output channel's weights in units of multiplier * 2^-shift * 2^(fraction - output_fraction)."""
    weight, bias = _learned(layer)
    rows = geometry.output_first(weight)
    largest = rows.abs().flatten(1).amax(1)
    unit = torch.stack(
        [
            largest / (2 ** (WEIGHT_BITS - 1) - 1),
            bias.abs() * 2.0 ** (fraction - BIAS_BITS),  # a bias among vanishing weights must not outgrow its sum
            2.0 ** (fraction - output_fraction - FINEST_BITS).expand_as(largest),
        ]
    ).amax(0)
    ratio = unit * 2.0 ** (output_fraction - fraction)
    shift = MULTIPLIER_BITS - 1 - ratio.log2().floor()
    multiplier = (ratio * 2.0**shift).ceil()
    unit = multiplier * 2.0 ** (fraction - output_fraction - shift)
    quantised = (rows / unit.reshape(-1, *[1] * (rows.ndim - 1))).round()
    return {
        "weight": geometry.input_first(quantised).to(torch.int8).contiguous(),
        "bias": (bias / unit * 2.0**fraction).round().to(torch.int64),
        "multiplier": multiplier.to(torch.int32),
        "shift": shift.to(torch.int32),
    }


def _learned(layer: Any) -> tuple[Tensor, Tensor]:
    """Weight, without the taps that a mask takes out, and bias."""
    weight = layer.weight * layer.mask if hasattr(layer, "mask") else layer.weight
    outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return weight, torch.zeros(outputs, dtype=weight.dtype) if layer.bias is None else layer.bias


def _table(layer: nn.Module, fraction: int, output_fraction: int) -> dict[str, Tensor]:
    activations = torch.arange(-LIMIT, LIMIT, dtype=torch.float64) * 2.0**-fraction
    values = (layer(activations) * 2.0**output_fraction).round().clamp(-LIMIT, LIMIT - 1)
    return {"table": values.to(torch.int16)}


def _normalization(layer: GDN, fraction: int, output_fraction: int) -> dict[str, Tensor]:
    """gamma in units of 2^-g, g even so that the root has a power of two for its unit, beta in 2^-(2 fraction + g)."""
    beta, gamma = layer.beta_reparam(layer.beta), layer.gamma_reparam(layer.gamma)
    largest = float((gamma.sum(1) * LIMIT**2 + beta * 2.0 ** (2 * fraction)).max())
    half = math.floor(math.log2(EXACT / largest) / 2 - 0.5)
    exponent = output_fraction - 2 * fraction - half if layer.inverse else output_fraction + half
    return {
        "gamma": (gamma * 4.0**half).round().to(torch.int32)[:, :, None, None],
        "beta": (beta * 4.0 ** (fraction + half)).round().clamp_min(1).to(torch.int64),
        "exponent": torch.tensor(exponent, dtype=torch.int32),
    }
