"""A network applied tile by tile gives what it gives in one piece, and holds no more than it is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from lightning_modules import tiling
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.coding.picture import pack, unpack
from lightning_modules.hyperprior.networks import analysis, hyper_analysis, hyper_synthesis, synthesis
from lightning_modules.hyperprior.transforms import PaddedUnshuffle
from lightning_modules.image_padding import crop
from lightning_modules.records import PixelFormat
from lightning_modules.tiling import LEAST_BYTES, MOST_BYTES, footprint, pasted, tile_area, tiled

NETWORKS = {"g_a": analysis, "h_a": hyper_analysis, "g_s": synthesis, "h_s": hyper_synthesis}


def integer_weights(network: nn.Sequential, seed: int) -> nn.Sequential:
    """Small integers in float64: every sum is exact, so that equal means equal to the last bit."""
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.data = torch.randint(-3, 4, weight.shape, generator=generator).double()
    return network


def integers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(seed)).double()


Pair = tuple[int, int]


def pairs(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Pair]:
    """Along rows and along columns."""
    return st.tuples(numbers, numbers)


@st.composite
def convolutions(draw: st.DrawFn, in_channels: int, out_channels: int) -> nn.Module:
    """Any kernel, stride, padding and dilation of which every output sees an input."""
    kernel, stride, dilation, wish = (draw(pairs(st.integers(*bounds))) for bounds in ((1, 5), (1, 3), (1, 2), (0, 9)))
    rows, columns = (min(wish[i], dilation[i] * (kernel[i] - 1)) for i in (0, 1))
    if draw(st.booleans()):
        return nn.Conv2d(in_channels, out_channels, kernel, stride, (rows, columns), dilation)
    rows, columns = rows // 2, columns // 2  # so that an output is left
    more, wider = (min(p, max(stride[i], dilation[i]) - 1) for i, p in enumerate((rows, columns)))
    return nn.ConvTranspose2d(
        in_channels, out_channels, kernel, stride, (rows, columns), (more, wider), dilation=dilation
    )


class Added(nn.Sequential):
    """Its input and what its layers make of it."""

    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)


@st.composite
def rearranged(draw: st.DrawFn, channels: int) -> tuple[list[nn.Module], int]:
    """Positions as channels, channels as positions, a sequence that adds its input, or nothing; channels after it."""
    factor = draw(st.integers(2, 3))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return [PaddedUnshuffle(factor)], channels * factor**2
    if kind == 1:
        return [nn.Conv2d(channels, factor**2, 1), nn.PixelShuffle(factor)], 1
    if kind == 2:
        return [Added(nn.Conv2d(channels, 2, 1), nn.ReLU(), nn.Conv2d(2, channels, 3, padding=1))], channels
    return [], channels


@st.composite
def networks(draw: st.DrawFn) -> nn.Sequential:
    channels = [2, *(draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, 3))))]
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        more, between = draw(rearranged(before))
        layers += [*more, draw(convolutions(between, after)), nn.ReLU()]
    return integer_weights(nn.Sequential(*layers), draw(st.integers(0, 99)))


@settings(max_examples=100, deadline=None)
@given(networks(), st.integers(1, 50), st.integers(1, 50), st.integers(5, 40))
@torch.no_grad()
def test_tiles_of_any_network_and_size_give_what_one_piece_gives(
    network: nn.Sequential, height: int, width: int, side: int
) -> None:
    value = integers(2, 2, height, width)
    try:
        whole = network(value)
    except RuntimeError:  # too small for an output
        return
    assert torch.equal(pasted(network, footprint(network), value, side), whole)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("height", "width", "count"), [(1, 1, 1), (1, 90, 4), (37, 64, 3), (50, 33, 7)])
@torch.no_grad()
def test_the_four_transforms_are_the_same_in_tiles(name: str, height: int, width: int, count: int) -> None:
    network = integer_weights(convolutions_of(NETWORKS[name](2, 3)), seed=1)
    value = integers(1, in_channels(network), height, width)
    whole = network(value)
    side = -(-max(whole.shape[-2:]) // count)
    assert torch.equal(pasted(network, footprint(network), value, side), whole)


def convolutions_of(network: nn.Sequential) -> nn.Sequential:
    """With ReLU in between: roots and slopes of 0.01 give no integers, and see one position all the same."""
    return nn.Sequential(*(layer if hasattr(layer, "kernel_size") else nn.ReLU() for layer in network))


def in_channels(network: nn.Sequential) -> int:
    first: Any = network[0]
    return int(first.in_channels)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_an_output_depends_on_is_exactly_what_the_footprint_says(name: str) -> None:
    network = NETWORKS[name](2, 3).double()
    value = torch.rand(1, in_channels(network), 97, 97, dtype=torch.float64, requires_grad=True)
    output = network(value)
    row, column = output.shape[-2] // 2, output.shape[-1] // 2 + 1
    output[..., row, column].sum().backward()
    assert value.grad is not None
    seen = value.grad.abs().sum((0, 1))
    field = footprint(network)
    for axis, position, along in ((0, row, field.rows), (1, column, field.columns)):
        touched = seen.sum(1 - axis).nonzero().flatten()
        assert along.needs((position, position + 1)) == (int(touched.min()), int(touched.max()) + 1)


def test_layers_that_see_everything_or_pad_otherwise_are_refused() -> None:
    with pytest.raises(ValueError, match="AdaptiveAvgPool2d cannot be tiled"):
        footprint(nn.Sequential(nn.Conv2d(1, 1, 3), nn.AdaptiveAvgPool2d(1)))
    with pytest.raises(ValueError, match="not reflect"):
        footprint(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")))
    with pytest.raises(ValueError, match="padding alone"):
        footprint(nn.Sequential(nn.Conv2d(1, 1, 1, padding=1)))


def test_a_tile_takes_its_share_of_free_memory_within_bounds() -> None:
    areas = [tile_area(free, 256.0) for free in (0, 10**7, 10**8, 4 * 10**8, 10**9, 10**12)]
    assert areas == sorted(areas)
    assert areas[0] == LEAST_BYTES // 256
    assert areas[3] == 4 * 10**8 // 8 // 256
    assert areas[-1] == areas[-2] == MOST_BYTES // 256
    assert tile_area(0, 1e12) == 1


def counted(network: nn.Sequential, shapes: list[tuple[int, ...]]) -> Callable[[Tensor], Tensor]:
    def run(value: Tensor) -> Tensor:
        shapes.append(tuple(value.shape))
        output: Tensor = network(value)
        return output

    return run


@torch.no_grad()
def test_a_picture_of_kodak_s_size_is_one_piece_for_the_packaged_model_and_a_larger_one_is_not() -> None:
    g_a, shapes = analysis(64, 96), list[tuple[int, ...]]()
    tiled(counted(g_a, shapes), footprint(g_a), torch.zeros(1, 3, 512, 768))
    assert shapes == [(1, 3, 512, 768)]
    shapes.clear()
    tiled(counted(g_a, shapes), footprint(g_a), torch.zeros(1, 3, 1024, 1024))
    assert len(shapes) == 4
    assert max(math.prod(shape[2:]) for shape in shapes) <= 600**2


def test_where_gradients_are_recorded_there_is_one_graph() -> None:
    g_a, shapes = analysis(64, 4), list[tuple[int, ...]]()
    tiled(counted(g_a, shapes), footprint(g_a), torch.zeros(1, 3, 800, 800))
    assert shapes == [(1, 3, 800, 800)]


@pytest.fixture(scope="module")
def codec(repository: Path) -> Any:
    return load_model(repository / "lightning_modules" / "checkpoints" / "demo-0.0025.safetensors").eval()


@pytest.fixture
def tiles_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it with the bytes that every tile may take from then on, however much memory is free."""

    def force(num_bytes: int) -> None:
        for name in ("LEAST_BYTES", "MOST_BYTES"):
            monkeypatch.setattr(tiling, name, num_bytes)

    return force


ONE_PIECE = 1 << 40
TINY = 1 << 22
"""128 pixels wide, for g_a and g_s of the packaged model."""


@pytest.fixture(scope="module")
def photo(kodak: list[Path]) -> Tensor:
    """(1, 3, 1000, 763), sides that no stride divides."""
    rows = [np.asarray(Image.open(path).convert("RGB")) for path in kodak[:2]]
    return torch.from_numpy(np.vstack(rows)[:1000, :763]).permute(2, 0, 1)[None].float() / 255.0


@pytest.mark.parametrize("side", [10, 17, 33])
@torch.no_grad()
def test_floating_point_kernels_may_differ_in_the_last_bits_but_hardly_any_latent_does(
    codec: Any, photo: Tensor, side: int
) -> None:
    y = codec.g_a(photo)
    z = codec.h_a(y)
    for network, value, whole, tile_side in ((codec.g_a, photo, y, side), (codec.h_a, y, z, side // 4)):
        in_tiles = pasted(network, footprint(network), value, tile_side)
        assert float((in_tiles - whole).abs().max()) < 1e-5 * float(whole.abs().max())
        assert float((in_tiles.round() != whole.round()).double().mean()) < 1e-4


@pytest.mark.parametrize("side", [97, 256, 600])
@torch.no_grad()
def test_pictures_in_tiles_are_the_same_to_within_one_level_and_nearly_everywhere_equal(
    codec: Any, photo: Tensor, side: int
) -> None:
    y_hat = codec.g_a(photo).round()
    whole = codec.g_s(y_hat)
    in_tiles = pasted(codec.g_s, footprint(codec.g_s), y_hat, side)
    assert float((in_tiles - whole).abs().max()) < 1e-5
    levels = [crop(x, (1000, 763)).clamp(0, 1).mul(255).round() for x in (in_tiles, whole)]
    difference = (levels[0] - levels[1]).abs()
    assert float(difference.max()) <= 1
    assert float((difference > 0).double().mean()) < 1e-4


def test_the_decoder_s_integers_are_identical_in_tiles(codec: Any, tiles_of: Callable[[int], None]) -> None:
    codec.update()
    z = integers(1, 64, 33, 41).int()
    parameters = codec._derived.value.parameters
    tiles_of(ONE_PIECE)
    index, mean = parameters(z, (130, 163))
    for num_bytes in (TINY, 3 * TINY):
        tiles_of(num_bytes)
        index_in_tiles, mean_in_tiles = parameters(z, (130, 163))
        assert torch.equal(index_in_tiles, index)
        assert torch.equal(mean_in_tiles, mean)


@pytest.mark.parametrize(("writer", "reader"), [(TINY, ONE_PIECE), (ONE_PIECE, TINY)])
@torch.no_grad()
def test_a_file_decodes_to_the_same_picture_whatever_tiles_wrote_it_and_read_it(
    codec: Any, photo: Tensor, tiles_of: Callable[[int], None], writer: int, reader: int
) -> None:
    tiles_of(writer)
    data = pack(codec, codec.analyze(photo), PixelFormat()).data
    as_the_writer_saw_it, _ = unpack(data, codec)
    tiles_of(reader)
    x_hat, _ = unpack(data, codec)
    assert float((x_hat - as_the_writer_saw_it).abs().max()) < 1e-5
    assert len(pack(codec, codec.analyze(photo), PixelFormat()).data) == pytest.approx(len(data), rel=1e-3)
