"""The packaged model of SIC on real pictures: files as long as estimated, tables as good as exact densities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.coding.container import section_ends
from lightning_modules.coding.picture import pack, unpack
from lightning_modules.densities import medians
from lightning_modules.quantization import hard_round
from lightning_modules.records import PixelFormat
from lightning_modules.sic.codec import SicCodec
from lightning_modules.sic.decoding_options import Reading
from lightning_modules.training.rate_distortion import bits, mse_255

ALLOWED_BYTES = 64
ALLOWED_SHARE = 1.005


@pytest.fixture(scope="module")
def codec() -> SicCodec:
    paths = sorted(PACKAGED.glob(f"{SicCodec.packaged_family}-*.safetensors"))
    if not paths:
        pytest.skip("no model of SIC is packaged")
    codec = load_model(paths[0])
    assert isinstance(codec, SicCodec)
    return codec.requires_grad_(False)


def opened(path: Path) -> Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None] / 255.0


@pytest.mark.parametrize("number", [20, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 5, 8, 13, 23))])
def test_on_kodak_files_are_as_long_as_estimated_and_rates_and_pictures_rise_with_the_level(
    codec: SicCodec, kodak: list[Path], number: int
) -> None:
    x = opened(kodak[number - 1])
    codec.reading = Reading()
    latents = codec.analyze(x)
    data = pack(codec, latents, PixelFormat()).data
    estimated = np.cumsum([float(value) / 8 for value in codec.estimate(latents).bits.values()])[1:]
    ends = section_ends(data)
    assert all(end <= ALLOWED_SHARE * bytes_ + ALLOWED_BYTES for end, bytes_ in zip(ends, estimated, strict=True))
    errors = []
    for level in (1, codec.levels // 2, codec.levels):
        codec.reading = Reading(level=level)
        errors.append(float(mse_255(x, unpack(data, codec).x_hat.clamp(0, 1))))
    assert errors == sorted(errors, reverse=True)


def test_on_kodak_tables_cost_at_most_a_thousandth_more_than_the_networks_densities(
    codec: SicCodec, kodak: list[Path]
) -> None:
    codec.reading = Reading()
    latents = codec.analyze(opened(kodak[19]))
    codec.update()
    assert medians(codec.entropy_bottleneck).isfinite().all()
    exact = codec.generate(latents, hard_round).likelihoods
    coded = codec.estimate(latents).bits
    of_y = [name for name in exact if name != "z"]
    assert sum(float(coded[name]) for name in of_y) <= 1.001 * sum(float(bits(exact[name])) for name in of_y)
