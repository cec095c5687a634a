"""Our codec and CompressAI's model with the very same weights, and the pictures both are given."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from compressai.models import MeanScaleHyperprior
from PIL import Image
from torch import Tensor

from benchmarks.measurement import Settings
from lightning_modules.checkpoints.checkpoint import load_codec
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.records import Latents

LMBDA = 0.005
"""Chooses among the packaged models: the middle one."""


class Contenders(NamedTuple):
    """ours and theirs compute the same latents from the same picture."""

    ours: HyperpriorCodec
    theirs: MeanScaleHyperprior


class Picture(NamedTuple):
    """x: (1, 3, H, W) in [0, 1], H and W multiples of 64 as CompressAI needs them."""

    name: str
    x: Tensor


@cache
def contenders(ckpt: str) -> Contenders:
    """Both sides in evaluation mode, coding tables built. ckpt: as on run.py's command line."""
    ours = load_codec(ckpt, HyperpriorCodec, lmbda=LMBDA, cache_dir=Path.home() / ".cache" / "latentpress")
    if not isinstance(ours, HyperpriorCodec):
        raise ValueError(f"{ckpt} is a {type(ours).__name__}; CompressAI's twin needs a mean-scale hyperprior")
    ours.update()
    N, M = (int(ours.hyperparameters[name]) for name in ("N", "M"))
    return Contenders(ours, twin(ours.state_dict(), N, M))


@torch.no_grad()
def twin(state: Mapping[str, Tensor], N: int, M: int) -> MeanScaleHyperprior:
    """CompressAI's model of the same weights and medians, ready to code."""
    model = MeanScaleHyperprior(N, M)
    for name, parameter in model.named_parameters():
        parameter.copy_(state[name])
    model.eval().update(force=True, update_quantiles=True)  # finds the range of z its tables must cover
    model.entropy_bottleneck.quantiles[:, :, 1] = state["entropy_bottleneck.quantiles"][:, :, 1]
    model.entropy_bottleneck.update(force=True)
    return model


@cache
def pictures(settings: Settings) -> list[Picture]:
    """Return the first pictures of the folder, cropped to multiples of 64."""
    if settings.pictures is None:
        from datamodules.sample import sample_images

        files = sample_images()
    else:
        files = [(path.name, path) for path in sorted(settings.pictures.glob("*.png"))]
    if not files:
        raise FileNotFoundError(f"{settings.pictures} holds no .png; give a folder of pictures with --pictures")
    return [Picture(name, _read(path)) for name, path in files[: settings.images]]


def _read(path: Path) -> Tensor:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    height, width = (side // 64 * 64 for side in pixels.shape[:2])
    return torch.from_numpy(pixels[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255.0


@torch.no_grad()
def latents_of(settings: Settings) -> list[Latents]:
    """Our encoder network's answer for every picture."""
    codec = contenders(settings.ckpt).ours
    return [codec.analyze(picture.x) for picture in pictures(settings)]


class CodingTask(NamedTuple):
    """What an entropy coder is given for y: all (1, M, h, w) float32; scales are raw network output."""

    y: Tensor
    scales: Tensor
    means: Tensor


@torch.no_grad()
def coding_task(codec: HyperpriorCodec, latents: Latents) -> CodingTask:
    """Return y and its coding parameters, which follow from the rounded z."""
    y, z = latents.variables["y"], latents.variables["z"]
    offset = codec.entropy_bottleneck.quantiles[:, 0, 1].reshape(1, -1, 1, 1)
    z_hat = torch.round(z - offset) + offset
    scales, means = codec.coding_parameters(z_hat, (y.shape[-2], y.shape[-1]))
    return CodingTask(y, scales, means)
