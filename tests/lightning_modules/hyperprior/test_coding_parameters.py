"""What y is coded with: near the float network's answer on real pictures, at no cost in bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.coding.tables import likely_symbols, nearest_scale_index
from lightning_modules.densities import medians
from lightning_modules.exact.network import LIMIT
from lightning_modules.exact.products import Float64Product
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.image_padding import crop

MODELS = sorted(PACKAGED.glob("demo-*.safetensors"))


@pytest.fixture(scope="module", params=MODELS, ids=lambda path: path.stem)
def codec(request: pytest.FixtureRequest) -> HyperpriorCodec:
    codec = load_model(request.param)
    assert isinstance(codec, HyperpriorCodec)
    return codec


def test_the_packaged_models_float_weights_are_those_of_their_integers(codec: HyperpriorCodec) -> None:
    implied = codec.implied_weights(codec.state_dict() | codec.decoder_state())
    assert {name.split(".")[0] for name in implied} == {"h_s"}
    assert all(torch.equal(dict(codec.named_parameters())[name], value) for name, value in implied.items())


@torch.no_grad()
def test_integers_cost_at_most_a_thousandth_of_the_bytes_of_y(codec: HyperpriorCodec, kodak: list[Path]) -> None:
    """Against h_s in floating point under the same tables; no activation is clamped on the way."""
    exact_bits = float_bits = 0.0
    derived = codec._derived.value
    for path in kodak[::4]:
        latents = codec.analyze(picture(path))
        integers = codec._integers(latents)
        exact_bits += codec._bits(integers)["y"]
        z_hat = torch.from_numpy(integers["z"])[None].float() + medians(codec.entropy_bottleneck)
        scales, means = codec.coding_parameters(z_hat, (integers["y"].shape[-2], integers["y"].shape[-1]))
        y = torch.round(latents.variables["y"] - means)[0].int().numpy()
        float_bits += float(derived.y_tables.bits(y, nearest_scale_index(scales)[0].numpy()).sum())
        assert_nothing_is_clamped(codec, z_hat)
    assert exact_bits <= 1.001 * float_bits, exact_bits / float_bits


def assert_nothing_is_clamped(codec: HyperpriorCodec, z_hat: torch.Tensor) -> None:
    network = codec._derived.value.parameters.network
    values = (z_hat.double() * 2.0 ** int(network.fractions[0])).round()
    for step in network.steps[:-1]:
        assert float(values.abs().max()) < LIMIT - 1
        values = step(values, Float64Product())


@torch.no_grad()
def test_table_and_mean_are_those_of_the_float_network_but_for_rounding(codec: HyperpriorCodec) -> None:
    z = likely_symbols(codec._derived.value.z_tables)[::4]
    index, mean = codec._derived.value.parameters(z, (24, 24))
    scales, means = crop(codec.h_s(z.float() + medians(codec.entropy_bottleneck)), (24, 24)).chunk(2, dim=1)
    assert float((index - nearest_scale_index(scales)).abs().max()) <= 3
    assert float((index == nearest_scale_index(scales)).double().mean()) > 0.9
    assert float((mean / 256 - means).square().mean().sqrt()) < 0.05
    assert torch.equal(mean, mean.round())


def picture(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path))).permute(2, 0, 1)[None].float() / 255
