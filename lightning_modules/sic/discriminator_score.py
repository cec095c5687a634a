"""The score that a GAN phase's discriminator gives decoded pictures, of whichever model, as a distance for tables."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.checkpoints.state_dict import normalize, read_tensors
from lightning_modules.errors import CodingError
from lightning_modules.image_padding import pad_to_multiple
from lightning_modules.sic.discriminator import Discriminator
from lightning_modules.sic.networks import SicNetworks

PREFIX = "discriminator."
"""Beginning of the names of its weights in a checkpoint of `GanModule`."""


class Judge:
    """A distance (x, x_hat), each (B, 3, H, W) in [0, 1] -> (B,): -ln P("real") in nats, mean over patches.

    Lower is better; ln 2 is what a discriminator says that cannot tell. Each picture is judged beside the latents of
    its original, by the encoder of the same checkpoint, so that pictures of several models meet one judge.

    checkpoint: of a GAN phase, read when it is first needed; raises `CodingError` then. level: of rate, from 1, whose
    layer of the discriminator listens to the latents; None: the highest.
    """

    def __init__(self, checkpoint: str | Path, level: int | None = None) -> None:
        self.checkpoint = Path(checkpoint)
        self.level = level

    @functools.cached_property
    def parts(self) -> Parts:
        return read_parts(self.checkpoint)

    def __call__(self, x: Tensor, x_hat: Tensor) -> Tensor:
        networks, discriminator = self.parts
        networks.to(x.device), discriminator.to(x.device)
        level = self.level or networks.groups
        if not 1 <= level <= networks.groups:
            raise CodingError(f"{self.checkpoint}: has levels 1 to {networks.groups}, no {level}")
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            y_hat = networks.y_of(x.float()).round()
            logits = discriminator(pad_to_multiple(x_hat.float(), networks.stride), y_hat, level)
        return F.softplus(-logits).flatten(1).mean(dim=1)


class Parts(NamedTuple):
    networks: SicNetworks
    discriminator: Discriminator


def read_parts(path: Path) -> Parts:
    """Read codec and discriminator from a training's checkpoint. Raises `CodingError`."""
    tensors = read_tensors(path)
    judging = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    state = normalize({name: value for name, value in tensors.items() if not name.startswith(PREFIX)})
    if not judging:
        raise CodingError(f"{path}: holds no discriminator; give RUN/checkpoints/last.ckpt of a GAN phase")
    networks = SicNetworks.from_weights(state)
    discriminator = Discriminator(
        groups=networks.groups, group_width=networks.group_width, condition=_condition(judging), widths=_widths(judging)
    )
    discriminator.load_state_dict(judging)
    return Parts(networks.eval().requires_grad_(False), discriminator.eval().requires_grad_(False))


def _condition(state: Mapping[str, Tensor]) -> int:
    return state["context_conv.0.weight"].shape[0]


def _widths(state: Mapping[str, Tensor]) -> list[int]:
    """Read the widths of all layers but the last, which makes the logit."""
    layers = [value for name, value in state.items() if name.endswith(".conv.weight_orig")]
    return [layer.shape[0] for layer in layers]
