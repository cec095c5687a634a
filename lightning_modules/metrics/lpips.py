"""LPIPS with weights that are found, fetched and checked here: Zhang et al. 2018, version 0.1 of its heads.

The heads travel with the package `lpips`; the trunk (AlexNet, VGG 16 or SqueezeNet 1.1, trained on ImageNet) is a file
of torchvision's, which is looked for on the disk, then fetched. Distances under different trunks are on different
scales.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lightning_modules.errors import CodingError
from lightning_modules.system.published_file import PublishedFile

TRUNKS = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""Files of torchvision's by trunk; the end of a name is the beginning of the file's SHA-256."""

PUBLISHED_AT = "https://download.pytorch.org/models"


class PerceptualDistance:
    """(x, x_hat), each (B, 3, H, W) in [0, 1] -> (B,), differentiable.

    trunk: alex, vgg or squeeze. weights: its file in torchvision's format; None: the published one, from PyTorch's
    cache or the network. Read when it is first needed; raises `CodingError` then, if there is none. Not a module, so
    that its weights enter no checkpoint.
    """

    def __init__(self, trunk: str, weights: str | Path | None = None, source: str = PUBLISHED_AT) -> None:
        if trunk not in TRUNKS:
            raise CodingError(f"{trunk}: no trunk of LPIPS; give one of {', '.join(TRUNKS)}")
        self.trunk = trunk
        self.weights = None if weights is None else Path(weights)
        self.source = source

    @functools.cached_property
    def network(self) -> nn.Module:
        """Load the network, frozen, in evaluation mode, on the CPU until a picture on another device comes."""
        import lpips

        with warnings.catch_warnings():  # lpips builds its trunk by an argument that torchvision has renamed
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            network = lpips.LPIPS(net=self.trunk, pnet_rand=True, verbose=False)
        state = read_weights(self.weights) if self.weights else published_weights(TRUNKS[self.trunk], self.source)
        try:  # slices of the trunk keep the numbers of torchvision's layers
            wanted = {name: state[f"features.{name.partition('.')[2]}"] for name in network.net.state_dict()}
            network.net.load_state_dict(wanted)
        except (KeyError, RuntimeError) as error:
            raise CodingError(f"{self.weights}: not the weights of trunk {self.trunk} ({error})") from error
        return cast(nn.Module, network.requires_grad_(False).eval())

    def __call__(self, x: Tensor, x_hat: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            distance = self.network.to(x.device)(x_hat.float(), x.float(), normalize=True)
        return cast(Tensor, distance).flatten()


def read_weights(path: Path) -> dict[str, Any]:
    """Read a state dict, never anything that runs code."""
    if not path.is_file():
        raise CodingError(f"{path}: no such file; name one with weights=, or let weights=null fetch the published one")
    try:
        return cast(dict[str, Any], torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises whatever its parser stumbles over
        raise CodingError(f"{path}: not readable weights ({type(error).__name__}); is it complete?") from error


def published_weights(name: str, source: str) -> dict[str, Any]:
    """Return a file of PyTorch's cache, fetched and checked against its hash if it is not there."""
    return read_weights(cached_by_torch(name, source).fetch())


def cached_by_torch(name: str, source: str) -> PublishedFile:
    """Fetch SOURCE/NAME, which torchvision and torch-fidelity look for where PyTorch keeps downloads."""
    return PublishedFile(f"{source}/{name}", Path(torch.hub.get_dir()) / "checkpoints")
