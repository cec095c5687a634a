"""Row 16: coding parameters of progressive SIC as a receiver finds them, over all at once in floating point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from benchmarks.measurement import Goal, Measurement, Settings, interleave, relative_time
from lightning_modules.densities import medians
from lightning_modules.sic.codec import SicCodec
from lightning_modules.sic.coding_parameters import CodingParameters, derive
from lightning_modules.sic.group_steps import Front, fill_group, parameters_at_once
from lightning_modules.sic.hyper_networks import STRIDE

NUMBER = 16
SIZES = Path(__file__).resolve().parents[2] / "conf" / "networks" / "sic.yaml"
SIZE = (32, 48)
"""Of y of a picture of 512x768."""

ROUNDS = 5


@torch.no_grad()
def measure(settings: Settings) -> list[Measurement]:
    """Measure networks of the published sizes; time does not depend on what the weights are."""
    torch.manual_seed(0)
    sizes: Any = OmegaConf.to_container(OmegaConf.load(SIZES))
    codec = SicCodec(**sizes).eval()
    parameters = derive(codec).parameters
    z = torch.randint(-3, 4, (1, codec.entropy_bottleneck.channels, SIZE[0] // STRIDE, SIZE[1] // STRIDE))
    y = torch.randint(-3, 4, (1, codec.channels, *SIZE)).double()
    z_hat, y_hat = z + medians(codec.entropy_bottleneck), y.float()

    def at_once_in_float() -> None:
        codec.parameters_of_y(codec.features_of_z(z_hat), y_hat)

    rounds = min(settings.rounds, ROUNDS)
    receiver = interleave(lambda: step_by_step(parameters, z, y), at_once_in_float, rounds=rounds)
    sender = interleave(lambda: at_once(parameters, z, y), at_once_in_float, rounds=rounds)
    return [
        relative_time(NUMBER, "SIC, 16 levels of 512x768: exact parameters, step by step", receiver, Goal("<=", 3.0)),
        relative_time(NUMBER, "the same as the sender finds them, at once", sender, Goal("<=", 3.0)),
    ]


def step_by_step(parameters: CodingParameters, z: Tensor, y: Tensor) -> None:
    hyper = parameters.hyper(z)
    for number, group in enumerate(parameters.groups):
        own = y[:, number * group.width : (number + 1) * group.width]

        def known(front: Front, keys: Tensor, base: Tensor, own: Tensor = own) -> Tensor:
            del keys, base
            return own[..., front.rows, front.columns]

        fill_group(group, hyper, y[:, : number * group.width], known)


def at_once(parameters: CodingParameters, z: Tensor, y: Tensor) -> None:
    hyper = parameters.hyper(z)
    for number, group in enumerate(parameters.groups):
        own = y[:, number * group.width : (number + 1) * group.width]
        parameters_at_once(group, hyper, y[:, : number * group.width], own)
