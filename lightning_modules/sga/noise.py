"""Random numbers of each image's own, which depend on its pixels and the seed alone.

They do not depend on its name, its place in the folder, the images refined with it, the process or, by default, the
device.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
from torch import Tensor

Draw = Callable[[Tensor], Tensor]
"""(tensor) -> fresh uniform numbers of its shape, precision and device, all strictly between 0 and 1."""

LEAST = 2.0**-25
"""In place of 0: uniform float32 numbers are multiples of 2^-24, from 0 to 1 - 2^-24."""


def image_seeds(x: Tensor, seed: int) -> list[int]:
    """Derive 32 bits, all that torch's CPU generator uses, from each image's 8-bit pixels; x: (B, 3, H, W)."""
    pixels = (x.detach().cpu() * 255.0).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()
    start = zlib.crc32(f"{seed} {tuple(x.shape[-2:])}".encode())
    return [zlib.crc32(image.tobytes(), start) for image in pixels]


def image_noise(x: Tensor, seed: int, device: str = "cpu") -> Draw:
    """Make the draws for tensors (B, ...) whose entry k belongs to image k of x (B, 3, H, W), from a stream each.

    device: where numbers are drawn. `cpu` gives the same ones for every device that they are used on; `cuda`
    saves the transfer.
    """
    generators = [torch.Generator(device).manual_seed(seed) for seed in image_seeds(x, seed)]

    def draw(like: Tensor) -> Tensor:
        shape = like.shape[1:]
        drawn = [torch.rand(shape, generator=generator, device=device) for generator in generators]
        return (torch.stack(drawn) if len(drawn) > 1 else drawn[0][None]).to(like).clamp_(min=LEAST)

    return draw


def logistic(uniform: Tensor) -> Tensor:
    """Turn uniform variates u into standard logistic ones, ln u - ln(1 - u)."""
    return torch.logit(uniform)


def gumbel(uniform: Tensor) -> Tensor:
    """Turn uniform variates u into standard Gumbel ones, -ln(-ln u)."""
    return -torch.log(-torch.log(uniform))
