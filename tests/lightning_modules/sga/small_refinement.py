"""A refinement small enough for a test: few steps on crops of a photograph, with the smallest packaged models."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
from PIL import Image
from torch import Tensor

from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.records import Estimate, Latents
from lightning_modules.sga.frozen_codec import float32
from lightning_modules.sga.methods import StochasticAnnealing
from lightning_modules.sga.noise import image_noise
from lightning_modules.sga.refinement import Refinement
from lightning_modules.sga.rounding import ssl
from lightning_modules.sga.selection import Last
from lightning_modules.sga.temperature import exponential
from lightning_modules.training import learning_rate
from lightning_modules.training.rate_distortion import mse_255

LMBDA = 0.005


def packaged_codec(lmbda: float = LMBDA) -> HyperpriorCodec:
    codec = load_model(PACKAGED / f"demo-{lmbda}.safetensors")
    assert isinstance(codec, HyperpriorCodec)
    return codec


def crop_of_photograph(top: int, left: int, height: int, width: int) -> Tensor:
    """(1, 3, height, width) in [0, 1]."""
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as picture:
        pixels = np.array(picture.convert("RGB"))[top : top + height, left : left + width]
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255.0


def refinement(**changes: Any) -> Refinement:
    """SGA+ with SSL, 20 steps in float32, the last latents kept; `changes` replace parts of it."""
    parts: dict[str, Any] = {
        "method": StochasticAnnealing(ssl(2.3), exponential(1e-3, 1.0)),
        "steps": 20,
        "lr": 5e-3,
        "schedule": learning_rate.constant(warmup=0),
        "lmbda": None,
        "evaluate_every": 10,
        "keep": Last,
        "seconds": None,
        "optimizer": functools.partial(torch.optim.Adam, eps=1e-8),
        "distortion": mse_255,
        "noise": functools.partial(image_noise, seed=0),
        "step_codec": float32,
    }
    return Refinement(**parts | changes)


def true_loss(estimate: Estimate, x: Tensor, lmbda: float) -> Tensor:
    """(B,)"""
    rate = torch.stack(list(estimate.bits.values())).sum(0) / (x.shape[-2] * x.shape[-1])
    return lmbda * mse_255(x, estimate.x_hat) + rate


def as_batch(*latents: Latents) -> dict[str, Tensor]:
    return {name: torch.cat([one.variables[name] for one in latents]) for name in latents[0].variables}


def saved_crops(folder: Path, names: Sequence[str]) -> Path:
    """The folder, with a small picture under each name, no two of one size."""
    for k, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        crop = crop_of_photograph(60 + 40 * k, 150, 64, 80 + 16 * k)
        Image.fromarray((crop[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / name)
    return folder
