"""Grow a packaged model of the papers' transforms: python -m lightning_modules.hyperprior SOURCE.safetensors START.pth

START.pth is a state dict for `ckpt=` with `transforms=bottlenecks`: residual bottlenecks that add nothing yet, and
channels of y that say nothing yet, join the model, which else codes as before. A training goes on from there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.hyperprior.transforms import Bottleneck

FAINT = 0.1
"""Factor on the fresh weights around new channels: they begin well below the rounding noise, and with a gradient."""

SILENT_SCALE = 0.25
"""Sigma of a new channel of y: rounded to zero at hardly any bits."""


@torch.no_grad()
def grown(old: HyperpriorCodec, *, M: int, blocks: tuple[int, int]) -> HyperpriorCodec:
    """Return the same codec with M channels of y and with bottlenecks, `blocks` of them at 1/8 and at 1/16.

    Raises `CodingError` for one that has more channels of y, or other transforms than the papers'.
    """
    N, before = old.hyperparameters["N"], old.hyperparameters["M"]
    if "transforms" in old.hyperparameters or before > M:
        raise CodingError(f"has M={before} or bottlenecks already; a model of the papers' transforms is grown to M={M}")
    settings = {
        "unshuffle": 1,
        "widths": [N, N, N],
        "blocks": list(blocks),
        "hyper_widths": [before, before * 3 // 2],
    }
    codec = HyperpriorCodec(N=N, M=M, lmbda=old.hyperparameters["lmbda"], transforms=settings)
    for name in ("g_a", "g_s", "h_a", "h_s"):
        grow(codec.get_submodule(name), old.get_submodule(name))
    split_parameters(codec.h_s[-1], old.h_s[-1])
    codec.entropy_bottleneck.load_state_dict(old.entropy_bottleneck.state_dict())
    return codec


def grow(network: nn.Module, old: nn.Module) -> None:
    """Copy the old weights layer by layer, with faint ones around them; bottlenecks add nothing."""
    for block in network.children():
        if isinstance(block, Bottleneck):
            block[-1].get_parameter("weight").zero_()
            block[-1].get_parameter("bias").zero_()
    kept = [layer for layer in network.children() if not isinstance(layer, Bottleneck)]
    for layer, source in zip(kept, old.children(), strict=True):
        for name, parameter in layer.named_parameters():
            place_into(parameter, source.get_parameter(name))


def place_into(parameter: Tensor, old: Tensor) -> None:
    """Copy the old values to the beginning of every axis."""
    if parameter.shape != old.shape:
        parameter.mul_(FAINT)
    parameter[tuple(slice(length) for length in old.shape)] = old


def split_parameters(layer: nn.Module, old: nn.Module) -> None:
    """Fill the last layer of h_s, whose outputs are scales, then means: old channels at the start of each half."""
    for name, fresh in (("weight", (0.0, 0.0)), ("bias", (SILENT_SCALE, 0.0))):
        halves, old_halves = layer.get_parameter(name).chunk(2), old.get_parameter(name).chunk(2)
        for half, old_half, value in zip(halves, old_halves, fresh, strict=True):
            half.fill_(value)
            half[: len(old_half)] = old_half


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lightning_modules.hyperprior", description=__doc__)
    parser.add_argument("source", type=Path, help="packaged hyperprior with the papers' transforms")
    parser.add_argument("target", type=Path, help="state dict to write")
    parser.add_argument("--M", type=int, default=192, help="channels of y")
    parser.add_argument("--blocks", type=int, nargs=2, default=(2, 1), metavar="COUNT", help="at 1/8 and at 1/16")
    options = parser.parse_args(arguments)
    try:
        source = load_model(options.source)
        if type(source) is not HyperpriorCodec:
            raise CodingError(f"{options.source}: holds a {type(source).__name__}, not a HyperpriorCodec")
        torch.manual_seed(0)
        codec = grown(source, M=options.M, blocks=tuple(options.blocks))
    except CodingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    torch.save(codec.state_dict(), options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
