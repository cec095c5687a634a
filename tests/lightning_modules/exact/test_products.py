"""Every way of adding integer products gives the integers of the definition, at the ends of the range, too."""

from __future__ import annotations

import pytest
import torch
from compressai.layers import MaskedConv2d
from torch import Tensor, nn

from lightning_modules.exact.products import (
    ByteProduct,
    Float64Product,
    IntegerWeight,
    LimbProduct,
    Product,
    TapProduct,
    geometry_of,
)

LAYERS: dict[str, nn.Module] = {
    "convolution": nn.Conv2d(6, 10, 3, padding=1),
    "stride 2, rectangular": nn.Conv2d(6, 4, (5, 3), stride=(2, 1), padding=(2, 0)),
    "dilated, grouped": nn.Conv2d(6, 9, 3, padding=2, dilation=2, groups=3),
    "depthwise": nn.Conv2d(6, 6, 3, groups=6),
    "pointwise": nn.Conv2d(6, 4, 1),
    "masked": MaskedConv2d(6, 8, kernel_size=5, padding=2),
    "upsampling": nn.ConvTranspose2d(6, 8, 5, stride=2, padding=2, output_padding=1),
    "upsampling, grouped, rectangular": nn.ConvTranspose2d(6, 4, (3, 4), stride=(2, 3), padding=(1, 0), groups=2),
    "upsampling, dilated": nn.ConvTranspose2d(6, 4, 3, stride=1, padding=1, dilation=2),
    "linear": nn.Linear(6, 5),
}
WAYS: dict[str, Product] = {
    "float64": Float64Product(),
    "limbs": LimbProduct(),
    "taps in float64": TapProduct(torch.float64),
}
DEFINITION = TapProduct(torch.int64)


def weight_of(layer: nn.Module, bound: int = 127) -> IntegerWeight:
    geometry = geometry_of(layer)
    assert geometry is not None
    generator = torch.Generator().manual_seed(0)
    shape = layer.get_parameter("weight").shape
    return IntegerWeight(torch.randint(-bound, bound + 1, shape, generator=generator).to(torch.int16), geometry)


def values_for(layer: nn.Module, low: int = -(1 << 15), high: int = (1 << 15) - 1) -> Tensor:
    shape = (3, 6) if isinstance(layer, nn.Linear) else (3, 6, 9, 11)
    values = torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(1)).double()
    values[0], values[1] = low, high
    return values


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LAYERS)
def test_all_ways_agree_with_integer_arithmetic(name: str, way: str) -> None:
    layer = LAYERS[name]
    values, weight = values_for(layer), weight_of(layer)
    result = WAYS[way](values, weight)
    assert result.dtype == torch.float64
    assert torch.equal(result, DEFINITION(values, weight))


@pytest.mark.parametrize("name", LAYERS)
def test_the_definition_is_the_layer(name: str) -> None:
    layer = LAYERS[name]
    values, weight = values_for(layer, -100, 100), weight_of(layer)
    twin = type(layer).__new__(type(layer))
    twin.__dict__.update(layer.__dict__)
    expected = torch.func.functional_call(
        layer.double(),
        {
            "weight": weight.integers.double(),
            "bias": torch.zeros_like(layer.get_parameter("bias"), dtype=torch.float64),
        },
        (values,),
    )
    if hasattr(layer, "mask"):
        weight = IntegerWeight((weight.integers * layer.get_buffer("mask")).to(torch.int16), weight.geometry)
    assert torch.equal(DEFINITION(values, weight), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_batches_threads_and_memory_formats_make_no_difference(name: str) -> None:
    layer = LAYERS[name]
    values, weight = values_for(layer), weight_of(layer)
    expected = DEFINITION(values, weight)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for way in WAYS.values():
                one_by_one = torch.cat([way(value[None], weight) for value in values])
                assert torch.equal(one_by_one, expected)
                if values.ndim == 4:
                    assert torch.equal(way(values.to(memory_format=torch.channels_last), weight), expected)
    finally:
        torch.set_num_threads(threads)


def test_a_large_batch_is_exact_without_onednn() -> None:
    """Other libraries then take over, some with transforms that are no sums of products."""
    layer = nn.Conv2d(16, 16, 3, padding=1)
    weight = weight_of(layer)
    values = torch.randint(-(1 << 15), 1 << 15, (32, 16, 24, 24), generator=torch.Generator().manual_seed(2)).double()
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(LimbProduct()(values, weight), DEFINITION(values, weight))


def test_weights_too_large_for_float32_sums_are_added_in_float64() -> None:
    layer = nn.Conv2d(200, 2, 5)
    weight, small = weight_of(layer, bound=30000), weight_of(layer, bound=20)
    assert weight.single is None
    assert small.single is not None
    values = torch.full((1, 200, 5, 5), -32768.0, dtype=torch.float64)
    assert torch.equal(LimbProduct()(values, weight), DEFINITION(values, weight))


@pytest.mark.parametrize("name", LAYERS)
def test_one_float32_pass_is_enough_for_values_of_8_bits(name: str) -> None:
    layer = LAYERS[name]
    weight = weight_of(layer)
    for values in (values_for(layer, -128, 127), torch.full_like(values_for(layer), -128)):
        assert torch.equal(ByteProduct()(values, weight), DEFINITION(values, weight))


def test_values_of_8_bits_and_weights_too_large_for_float32_are_added_in_float64() -> None:
    weight = weight_of(nn.Conv2d(200, 2, 5), bound=30000)
    values = torch.full((1, 200, 5, 5), -128.0, dtype=torch.float64)
    assert torch.equal(ByteProduct()(values, weight), DEFINITION(values, weight))


def test_squares_keep_all_their_bits() -> None:
    weight = weight_of(LAYERS["pointwise"])
    squares = values_for(LAYERS["pointwise"]).square()
    assert float(squares.max()) == 2.0**30
    for way in WAYS.values():
        assert torch.equal(way.wide(squares, weight), DEFINITION.wide(squares, weight))


def test_float32_would_not_have_been_exact() -> None:
    """The fault that all this is about: a plain convolution of the same integers rounds."""
    weight = weight_of(LAYERS["convolution"])
    values = values_for(LAYERS["convolution"])
    rounded = weight.geometry.apply(values.float(), weight.integers.float()).double()
    assert not torch.equal(rounded, DEFINITION(values, weight))


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), nn.Conv2d(1, 1, 3, padding="same"), nn.ReLU()]
)
def test_layers_without_plain_taps_have_no_geometry(layer: nn.Module) -> None:
    assert geometry_of(layer) is None
