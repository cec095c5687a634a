"""Small networks of SIC for tests, with coding parameters that differ between channels and positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_modules.sic.codec import SicCodec
from lightning_modules.sic.networks import SicNetworks

SIZES: dict[str, Any] = {"widths": [8, 8, 12, 12], "depths": [1, 2, 1, 2], "heads": 4, "groups": 4, "hyper_width": 6}

LIVELY = {"ga": 10.0, "ha": 1.5}
"""Factors on weights without which so narrow networks give nearly the same latents for every picture."""


def small_networks(seed: int = 0, **changes: Any) -> SicNetworks:
    """Scales between 0.3 and 2, means and detail's means that vary, medians off the integers."""
    torch.manual_seed(seed)
    networks = SicNetworks(**SIZES | changes)
    with torch.no_grad():
        networks.hs.get_parameter("4.weight").mul_(20)
        last = networks.entropy_parameters.layer[4]
        assert isinstance(last, torch.nn.Conv2d)
        assert last.bias is not None
        scales = last.bias.unflatten(0, (networks.groups, 2, -1))[:, 0]
        scales.copy_(torch.rand_like(scales) * 1.7 + 0.3)
        for parameter in networks.ga.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
        quantiles = networks.entropy_bottleneck.quantiles
        quantiles[:, :, 1] += 0.3 * torch.randn_like(quantiles[:, :, 1])
    return networks


def pictures(*shape: int, seed: int = 1) -> Tensor:
    """(*shape) in [0, 1): smooth along rows, so that transforms have something to find."""
    noise = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return (noise + noise.roll(1, -1) + noise.roll(2, -1)) / 3


def small_codec(seed: int = 0, **changes: Any) -> SicCodec:
    """The same networks with files, and with latents that depend on the picture: untrained ones hardly do."""
    networks = small_networks(seed, **changes).requires_grad_(False)
    for part, factor in LIVELY.items():
        for parameter in networks.get_submodule(part).parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return SicCodec.from_weights(networks.state_dict()).eval().requires_grad_(False)
