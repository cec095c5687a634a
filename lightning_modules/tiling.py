"""Convolutional networks on pictures of any size within bounded memory: tile by tile, each with what it needs to see.

    output tile --layer by layer, backwards--> the input it depends on --network--> output --cut--> output tile

Every output value is the same sum of the same products as in one pass over the whole input: where a tile ends at
the input's own border the network pads with zeros, as it would there; everywhere else the tile is cut with a halo as
wide as the receptive field, and what the padding has touched is cut off again. So integer networks give identical
results, and floating-point ones too, up to the order in which a library's kernel adds: it may choose another kernel
for another size, and the last bit of a float32 sum then differs.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from compressai.layers import GDN
from torch import Tensor, nn

from lightning_modules.system.free_memory import free_memory

POINTWISE = (GDN, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Tanh, nn.Identity)
"""Layers whose output at a position depends on their input at that position alone."""

LIVE_COPIES = 4
"""Activations of the widest layer that exist at once, within GDN."""

MOST_BYTES = 3 << 25
"""Of activations in one tile. More makes nothing faster, rather slower: memory is then taken from the system for each
layer anew. And while this much is to be had, results do not depend on how much memory is free."""

LEAST_BYTES = 1 << 22
"""Below, most of a tile would be halo."""

SHARE_OF_FREE = 8
"""Tiles take one part in so many of the memory that is free; the rest is for pictures and latents."""

Interval = tuple[int, int]
"""(start, stop), stop excluded."""


class Layer(Protocol):
    """A convolution along one axis."""

    def output_length(self, length: int) -> int: ...

    def needs(self, output: Interval) -> Interval:
        """Return the inputs that meet in an interval of outputs; they may reach beyond the input, into the padding."""

    @property
    def scale(self) -> Fraction:
        """Return outputs per input."""


class Striding(NamedTuple):
    """`nn.Conv2d` along one axis; kernel: from the first tap to the last."""

    kernel: int
    stride: int
    padding: int

    def output_length(self, length: int) -> int:
        return (length + 2 * self.padding - self.kernel) // self.stride + 1

    def needs(self, output: Interval) -> Interval:
        start, stop = output
        return start * self.stride - self.padding, (stop - 1) * self.stride - self.padding + self.kernel

    @property
    def scale(self) -> Fraction:
        return Fraction(1, self.stride)


class Upsampling(NamedTuple):
    """`nn.ConvTranspose2d` along one axis; kernel: from the first tap to the last."""

    kernel: int
    stride: int
    padding: int
    output_padding: int

    def output_length(self, length: int) -> int:
        return (length - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding

    def needs(self, output: Interval) -> Interval:
        start, stop = output
        first = -((self.kernel - 1 - self.padding - start) // self.stride)
        last = (stop - 1 + self.padding) // self.stride
        # With them alone, padding would crop outputs off that no tap, or another input's, lies beside.
        end = -(-(stop + 2 * self.padding - self.kernel - self.output_padding) // self.stride)
        return min(first, start // self.stride), max(last, end) + 1

    @property
    def scale(self) -> Fraction:
        return Fraction(self.stride)


class Unshuffling(NamedTuple):
    """`nn.PixelUnshuffle` along one axis; what a last, incomplete block lacks, the layer pads."""

    factor: int

    def output_length(self, length: int) -> int:
        return -(-length // self.factor)

    def needs(self, output: Interval) -> Interval:
        start, stop = output
        return start * self.factor, stop * self.factor

    @property
    def scale(self) -> Fraction:
        return Fraction(1, self.factor)


class Shuffling(NamedTuple):
    """`nn.PixelShuffle` along one axis."""

    factor: int

    def output_length(self, length: int) -> int:
        return length * self.factor

    def needs(self, output: Interval) -> Interval:
        start, stop = output
        return start // self.factor, -(-stop // self.factor)

    @property
    def scale(self) -> Fraction:
        return Fraction(self.factor)


class Cut(NamedTuple):
    """One tile along one axis: what the network sees of the input, what is kept of its answer, and where that goes."""

    seen: slice
    kept: slice
    target: slice


class Axis(NamedTuple):
    """A network along one axis."""

    layers: tuple[Layer, ...]

    def output_length(self, length: int) -> int:
        return reduce(lambda current, layer: layer.output_length(current), self.layers, length)

    def needs(self, output: Interval) -> Interval:
        return reduce(lambda interval, layer: layer.needs(interval), reversed(self.layers), output)

    def cut(self, length: int, target: Interval) -> Cut:
        """Return the tile of `target` in the output for an input of `length`."""
        start, stop = self.needs(target)
        step = math.prod(layer.scale.denominator for layer in self.layers)
        start, stop = max(0, start) // step * step, min(length, stop)  # where every layer's grid starts anew
        origin = int(start * math.prod(layer.scale for layer in self.layers))
        return Cut(slice(start, stop), slice(target[0] - origin, target[1] - origin), slice(*target))

    def cuts(self, length: int, side: int) -> list[Cut]:
        """Return tiles of nearly equal length, at most `side` of the output each."""
        total = self.output_length(length)
        count = -(-total // side)
        borders = [index * total // count for index in range(count + 1)]
        return [self.cut(length, (start, stop)) for start, stop in pairwise(borders)]


class Footprint(NamedTuple):
    """What a network sees, and holds: `values` at once for each position of its output."""

    rows: Axis
    columns: Axis
    values: float


def footprint(network: nn.Sequential) -> Footprint:
    """Read off the layers. Raises `ValueError` for one that sees more than its neighbourhood, or pads otherwise."""
    layers = [layer for layer in _flat(network) if not isinstance(layer, POINTWISE)]
    rows, columns = (Axis(tuple(_along(layer, axis) for layer in layers)) for axis in (0, 1))
    area, widest, channels = Fraction(1), Fraction(0), 0
    for layer, row, column in zip(layers, rows.layers, columns.layers, strict=True):
        before, channels = _channels(layer, channels)
        widest = max(widest, area * before)
        area *= row.scale * column.scale
        widest = max(widest, area * channels)
    return Footprint(rows, columns, float(LIVE_COPIES * widest / area))


def _flat(network: nn.Sequential) -> Iterator[nn.Module]:
    """Yield layers, with those of a sequence among them in the sequence's place.

    A sequence may add its input to its output: what it then sees is what its layers see, if these keep positions.
    """
    for layer in network:
        yield from _flat(layer) if isinstance(layer, nn.Sequential) else (layer,)


def tile_area(free_bytes: int, bytes_per_position: float) -> int:
    """Return how many output positions one tile may have, at least 1."""
    allowed = min(MOST_BYTES, max(LEAST_BYTES, free_bytes // SHARE_OF_FREE))
    return max(1, int(allowed / bytes_per_position))


def tiled(network: Callable[[Tensor], Tensor], field: Footprint, value: Tensor) -> Tensor:
    """Return `network(value)` for (B, C, H, W), in tiles if it is too large for one; `field` is the network's.

    Where gradients are recorded, which keeps every activation anyway, in one piece.
    """
    size = field.rows.output_length(value.shape[-2]), field.columns.output_length(value.shape[-1])
    bytes_per_position = field.values * value.shape[0] * value.element_size()
    if torch.is_grad_enabled() or size[0] * size[1] * bytes_per_position <= LEAST_BYTES:
        return network(value)
    area = tile_area(free_memory(value.device), bytes_per_position)
    return network(value) if size[0] * size[1] <= area else pasted(network, field, value, math.isqrt(area))


class TiledSequential(nn.Sequential):
    """Layers that take a large input in tiles, wherever no gradients are recorded."""

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        self.field = footprint(self)

    def forward(self, input: Tensor) -> Tensor:
        return tiled(super().forward, self.field, input)


def in_tiles(value: Any) -> Any:
    """Return a plain `nn.Sequential` whose footprint is known as one that tiles; anything else as it is."""
    if type(value) is not nn.Sequential:
        return value
    try:
        return TiledSequential(OrderedDict(value.named_children()))
    except ValueError:
        return value


def pasted(network: Callable[[Tensor], Tensor], field: Footprint, value: Tensor, side: int) -> Tensor:
    """Return `network(value)` from tiles of at most side x side outputs."""
    height, width = value.shape[-2:]
    result: Tensor | None = None
    for rows in field.rows.cuts(height, side):
        for columns in field.columns.cuts(width, side):
            tile = network(value[..., rows.seen, columns.seen])[..., rows.kept, columns.kept]
            if result is None:
                size = field.rows.output_length(height), field.columns.output_length(width)
                result = tile.new_empty(*tile.shape[:-2], *size)
            result[..., rows.target, columns.target] = tile
    assert result is not None, "an output has at least one position, so at least one tile"
    return result


def _channels(layer: nn.Module, before: int) -> tuple[int, int]:
    """Return the channels of input and output; `before`: those of the layer before, 0 where there is none."""
    if isinstance(layer, nn.PixelUnshuffle):
        return before, before * layer.downscale_factor**2
    if isinstance(layer, nn.PixelShuffle):
        return before, before // layer.upscale_factor**2
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d), "others are refused by `_along`"
    return layer.in_channels, layer.out_channels


def _along(layer: nn.Module, axis: int) -> Layer:
    if isinstance(layer, nn.PixelUnshuffle):
        return Unshuffling(layer.downscale_factor)
    if isinstance(layer, nn.PixelShuffle):
        return Shuffling(layer.upscale_factor)
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        raise ValueError(f"{type(layer).__name__} cannot be tiled: what its outputs depend on is not known")
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError(f"tiles are padded with a number of zeros, not {layer.padding_mode} {layer.padding!r}")
    kernel = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
    stride, padding = layer.stride[axis], int(layer.padding[axis])
    output_padding = int(layer.output_padding[axis])
    if padding >= kernel or output_padding > padding:
        raise ValueError(f"{layer} cannot be tiled: some of its outputs depend on padding alone")
    if isinstance(layer, nn.Conv2d):
        return Striding(kernel, stride, padding)
    return Upsampling(kernel, stride, padding, output_padding)
