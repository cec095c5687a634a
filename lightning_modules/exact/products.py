"""Sums of products of integers, in five ways that must agree to the last bit.

    Float64Product   float64 convolutions; every partial sum is an integer below 2^53
    LimbProduct      two float32 convolutions of 8-bit halves, every partial sum an integer below 2^24
    ByteProduct      one float32 convolution, for values that have 8 bits only
    TapProduct       matrix products, one for each tap of the kernel, in float64 or, as the definition, in int64

A `Geometry` says where the taps lie: correlation (`nn.Conv2d`), upsampling (`nn.ConvTranspose2d`) or none
(`nn.Linear`). Legend: B images, C input and D output channels, G groups, K taps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.errors import CodingError

LIMB = 256
"""A 16-bit activation is LIMB * high + low, with -128 <= high <= 128 and -128 <= low <= 127."""

SINGLE = 1 << 24
"""Float32 holds every integer up to this magnitude."""

Pair = tuple[int, int]


class IntegerWeight:
    """A layer's weight as integers (int8, int16 or int32), and as the floating-point numbers that kernels take."""

    def __init__(self, integers: Tensor, geometry: Geometry) -> None:
        self.integers = integers
        self.geometry = geometry

    @cached_property
    def sums(self) -> Tensor:
        """Return the sums of magnitudes that meet in one output, (D,)."""
        return self.geometry.weight_sums(self.integers.double())

    @cached_property
    def double(self) -> Tensor:
        return self.integers.double()

    @cached_property
    def single(self) -> Tensor | None:
        """Float32; None when the sum over one limb could pass 2^24."""
        return self.integers.float() if float(self.sums.max()) * (LIMB // 2) <= SINGLE else None


class Geometry(ABC):
    """How a layer's taps are laid out."""

    @abstractmethod
    def apply(self, values: Tensor, weight: Tensor) -> Tensor:
        """Apply the library's kernel, without bias."""

    @abstractmethod
    def by_taps(self, values: Tensor, weight: Tensor) -> Tensor:
        """Compute the same sums as matrix products, one a tap; takes integer tensors, too."""

    def transposed(self) -> Geometry:
        """Return the transposed matrix's geometry, of the same weight. Raises CodingError where none of ours is it."""
        raise CodingError(f"{type(self).__name__} layers with these strides have no exact gradient")

    def weight_sums(self, weight: Tensor) -> Tensor:
        """Return the sum of |weight| over each output's inputs and taps, (D,)."""
        return self.output_first(weight).abs().flatten(1).sum(1)

    def output_first(self, weight: Tensor) -> Tensor:
        """Return the weight with shape (D, C / G, ...)."""
        return weight

    def input_first(self, weight: Tensor) -> Tensor:
        """Undo `output_first`."""
        return weight

    def per_channel(self, values: Tensor) -> Tensor:
        """Return values (D,) in a shape that broadcasts against the output."""
        return values.reshape(-1, 1, 1)


@dataclass(frozen=True)
class Dense(Geometry):
    """`nn.Linear`: (..., C) -> (..., D)."""

    def apply(self, values: Tensor, weight: Tensor) -> Tensor:
        return F.linear(values, weight)

    def by_taps(self, values: Tensor, weight: Tensor) -> Tensor:
        return values @ weight.T

    def per_channel(self, values: Tensor) -> Tensor:
        return values


@dataclass(frozen=True)
class Correlation(Geometry):
    """`nn.Conv2d` with zero padding: (B, C, H, W) -> (B, D, h, w)."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    def apply(self, values: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(values, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def by_taps(self, values: Tensor, weight: Tensor) -> Tensor:
        rows, columns = self.padding
        padded = F.pad(values, (columns, columns, rows, rows))
        return _correlate(padded, weight, self.stride, self.dilation, self.groups)

    def transposed(self) -> Geometry:
        if self.stride != (1, 1):
            return super().transposed()
        return Upsampling(self.stride, self.padding, (0, 0), self.dilation, self.groups)


POINTWISE = Correlation((1, 1), (0, 0), (1, 1), 1)
"""A matrix over channels at each position."""


@dataclass(frozen=True)
class Upsampling(Geometry):
    """`nn.ConvTranspose2d`: (B, C, H, W) -> (B, D, h, w)."""

    stride: Pair
    padding: Pair
    output_padding: Pair
    dilation: Pair
    groups: int

    def apply(self, values: Tensor, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(
            values, weight, None, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )

    def by_taps(self, values: Tensor, weight: Tensor) -> Tensor:
        """Compute the sums as a correlation of the input, spread out with zeros between its elements."""
        batch, channels, height, width = values.shape
        spread = values.new_zeros(batch, channels, (height - 1) * self.stride[0] + 1, (width - 1) * self.stride[1] + 1)
        spread[..., :: self.stride[0], :: self.stride[1]] = values
        margins = [self.dilation[i] * (weight.shape[2 + i] - 1) - self.padding[i] for i in (0, 1)]
        (top, left), (below, right) = margins, self.output_padding
        padded = F.pad(spread, (left, left + right, top, top + below))
        return _correlate(padded, self.output_first(weight).flip((2, 3)), (1, 1), self.dilation, self.groups)

    def transposed(self) -> Geometry:
        """Return the transposed geometry, while the output is no larger than the stride times the input."""
        return Correlation(self.stride, self.padding, self.dilation, self.groups)

    def output_first(self, weight: Tensor) -> Tensor:
        return _swap_channels(weight, self.groups)

    def input_first(self, weight: Tensor) -> Tensor:
        return _swap_channels(weight, self.groups)


def geometry_of(layer: nn.Module) -> Geometry | None:
    """Return where a layer's taps lie; None for a layer that is no sum of products."""
    if isinstance(layer, nn.Linear):
        return Dense()
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or layer.padding_mode != "zeros":
        return None
    if isinstance(layer.padding, str):
        return None
    stride, padding, dilation = (_pair(value) for value in (layer.stride, layer.padding, layer.dilation))
    if isinstance(layer, nn.ConvTranspose2d):
        return Upsampling(stride, padding, _pair(layer.output_padding), dilation, layer.groups)
    return Correlation(stride, padding, dilation, layer.groups)


class Product(Protocol):
    """Integer sums of products, as float64. values: integers below 2^15 in magnitude (`wide`: 2^30)."""

    def __call__(self, values: Tensor, weight: IntegerWeight) -> Tensor: ...

    def wide(self, values: Tensor, weight: IntegerWeight) -> Tensor: ...


class Float64Product:
    """The evaluation that needs no conditions but the layer's own bound."""

    def __call__(self, values: Tensor, weight: IntegerWeight) -> Tensor:
        return weight.geometry.apply(values, weight.double)

    wide = __call__


class LimbProduct(Float64Product):
    """Twice a float32 convolution costs half of one in float64, and sums of 8-bit halves are as exact.

    Also under kernels that round their operands to TF32 or bfloat16, which hold 8-bit integers, as long as they
    add in float32. A layer whose weights are too large for that goes to float64.
    """

    def __call__(self, values: Tensor, weight: IntegerWeight) -> Tensor:
        if weight.single is None:
            return self.wide(values, weight)
        single = values.float()
        high = single.add(LIMB // 2).mul_(1 / LIMB).floor_()
        low = single.sub_(high, alpha=LIMB)
        with torch.backends.nnpack.flags(enabled=False):  # its Winograd transforms are not sums of products
            total = weight.geometry.apply(high, weight.single).double().mul_(LIMB)
            return total.add_(weight.geometry.apply(low, weight.single))


class ByteProduct(Float64Product):
    """For values in -128 ... 127: what `LimbProduct` does to the lower half."""

    def __call__(self, values: Tensor, weight: IntegerWeight) -> Tensor:
        if weight.single is None:
            return self.wide(values, weight)
        with torch.backends.nnpack.flags(enabled=False):
            return weight.geometry.apply(values.float(), weight.single).double()


class TapProduct:
    """Matrix products in `dtype`: int64 is the definition; float64 leaves no kernel a choice of algorithm."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, values: Tensor, weight: IntegerWeight) -> Tensor:
        return weight.geometry.by_taps(values.to(self.dtype), weight.integers.to(self.dtype)).double()

    wide = __call__


def products(device: torch.device) -> list[Product]:
    """Ways to evaluate on a device, the fastest first."""
    if device.type == "cpu":
        return [LimbProduct(), Float64Product()]
    return [TapProduct(torch.float64)]  # cuDNN may pick an algorithm that is no sum of products


def _correlate(padded: Tensor, weight: Tensor, stride: Pair, dilation: Pair, groups: int) -> Tensor:
    """padded: (B, C, H, W), weight: (D, C / G, k, l) -> (B, D, h, w)."""
    size = [(padded.shape[2 + i] - dilation[i] * (weight.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    inputs = padded.unflatten(1, (groups, -1))
    matrices = weight.unflatten(0, (groups, -1))
    total = padded.new_zeros(padded.shape[0], weight.shape[0], *size)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            top, left = row * dilation[0], column * dilation[1]
            seen = inputs[
                ...,
                top : top + (size[0] - 1) * stride[0] + 1 : stride[0],
                left : left + (size[1] - 1) * stride[1] + 1 : stride[1],
            ]
            total += torch.einsum("gdc,bgchw->bgdhw", matrices[..., row, column], seen).flatten(1, 2)
    return total


def _swap_channels(weight: Tensor, groups: int) -> Tensor:
    """(G * a, b, k, l) -> (G * b, a, k, l), group by group."""
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
