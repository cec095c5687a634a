"""A bits-back model that begins with a hyperprior computes what that does."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from lightning_modules.checkpoints.checkpoint import load_codec, nearest_packaged
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.sga.bits_back.__main__ import main
from lightning_modules.sga.bits_back.codec import BitsBackCodec


def test_it_has_the_hyperpriors_y_and_means_and_the_variance_of_rounding(
    codec: HyperpriorCodec, x: Tensor, tmp_path: Path
) -> None:
    assert main([str(nearest_packaged("demo", 0.005)), str(tmp_path / "start.pth")]) == 0
    start = load_codec(str(tmp_path / "start.pth"), BitsBackCodec, lmbda=0.005, cache_dir=tmp_path)
    with torch.no_grad():
        expected, found = codec.analyze(x).variables, start.analyze(x).variables
    assert torch.equal(found["y"], expected["y"])
    assert torch.allclose(found["mean"], expected["z"], atol=1e-5)
    assert torch.allclose(found["log_variance"], torch.tensor(math.log(1 / 12)))


def test_a_missing_hyperprior_is_one_line(tmp_path: Path) -> None:
    assert main([str(tmp_path / "none"), str(tmp_path / "start.pth")]) == 1
