"""Weight normalisation with data-dependent initialisation (Salimans, Kingma 2016), as iREC's and HiLLoC's VAEs use it.

weight = exp(log_gain) * direction / ||direction||, the norm being over all inputs and taps of an output channel. The
first batch sets gains and biases so that every output channel has mean 0 and standard deviation 0.1 on it. (The
published code sets the logarithm of the gain to a third of what that asks for, a remnant of exp(3 log_gain), and adds
the bias twice in that first pass; neither is done here.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

FIRST_DEVIATION = 0.1
DIRECTION_SCALE = 0.05
"""Standard deviation of the first directions; only their ratios count."""
LEAST_VARIANCE = 1e-4
"""Least variance of a channel before its gain, which is then 10: the highest block sees a learned constant, and a gain
that made a tenth of that would blow up its first change."""
LEAST_NORM = 1e-12

Convolution = TypeVar("Convolution", nn.Conv2d, nn.ConvTranspose2d)


class WeightNorm(nn.Module):
    """From (log_gain, direction) to a weight. output_axis: of the weight's axes, the one of output channels."""

    def __init__(self, output_axis: int) -> None:
        super().__init__()
        self.output_axis = output_axis

    def forward(self, log_gain: Tensor, direction: Tensor) -> Tensor:
        return direction * (self._per_output(log_gain.exp()) / self._norm(direction))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return log_gain (D,) and direction of a weight, the weight itself."""
        return self._norm(weight).flatten().log(), weight

    def _norm(self, weight: Tensor) -> Tensor:
        axes = [axis for axis in range(4) if axis != self.output_axis]
        return (weight.square().sum(axes, keepdim=True) + LEAST_NORM).sqrt()

    def _per_output(self, values: Tensor) -> Tensor:
        return values.reshape([-1 if axis == self.output_axis else 1 for axis in range(4)])


def weight_normed(layer: Convolution) -> Convolution:
    """Split a layer's weight in two parameters, directions drawn anew, and no bias."""
    nn.init.normal_(layer.weight, std=DIRECTION_SCALE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    output_axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    parametrize.register_parametrization(layer, "weight", WeightNorm(output_axis))
    return layer


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """Return a weight-normed layer of stride 1 that keeps sizes."""
    return weight_normed(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))


@contextmanager
def initialized_by_data(network: nn.Module) -> Iterator[None]:
    """Have the first batch that passes each weight-normed layer of `network` set its gain and bias."""
    with ExitStack() as stack:
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and parametrize.is_parametrized(layer, "weight"):
                _log_gain(layer).data.zero_()
                seen: list[bool] = []
                handle = layer.register_forward_hook(partial(_standardize, seen))
                stack.callback(handle.remove)
        yield


@torch.no_grad()
def _standardize(seen: list[bool], layer: Any, inputs: Any, output: Tensor) -> Tensor | None:
    """Set gain and bias of a layer with gain 1 and no bias; return what it then gives."""
    del inputs
    if seen:
        return None
    seen.append(True)
    mean = output.mean((0, 2, 3))
    scale = FIRST_DEVIATION / output.var((0, 2, 3), unbiased=False).clamp_min(LEAST_VARIANCE).sqrt()
    _log_gain(layer).copy_(scale.log())
    layer.bias.copy_(-mean * scale)
    return (output - mean.reshape(-1, 1, 1)) * scale.reshape(-1, 1, 1)


def _log_gain(layer: Any) -> nn.Parameter:
    gain: nn.Parameter = layer.parametrizations.weight.original0
    return gain
