"""Fixtures of the bits-back tests: the packaged model, and crops of a photograph."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_modules.checkpoints.checkpoint import load_codec
from lightning_modules.records import Latents
from lightning_modules.sga.bits_back.codec import SEARCH, BitsBackCodec
from tests.lightning_modules.sga.small_refinement import crop_of_photograph


@pytest.fixture(scope="session")
def bits_back_codec() -> BitsBackCodec:
    """The packaged model; not to be changed."""
    codec = load_codec("demo", BitsBackCodec, lmbda=0.0025, cache_dir=Path("none"))
    assert isinstance(codec, BitsBackCodec)
    return codec


@pytest.fixture(scope="session")
def picture() -> Tensor:
    """(1, 3, 128, 160), part of a face."""
    return crop_of_photograph(80, 190, 128, 160)


def searched(codec: BitsBackCodec, x: Tensor, steps: int = 3) -> Latents:
    """The encoder's y, with a short search for q."""
    with torch.no_grad():
        y = codec.analyze(x).variables["y"]
    return Latents({"y": y, SEARCH: torch.tensor([[steps, 400 if steps else 0]])}, (x.shape[-2], x.shape[-1]))
