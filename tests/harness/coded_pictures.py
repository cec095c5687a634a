"""Records of pictures as test steps return them, with chosen pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.records import CodedImage, PixelFormat


def coded(name: str, x: Tensor, x_hat: Tensor, num_bytes: int, gray: bool = False) -> CodedImage:
    return CodedImage(
        name=name,
        x=x,
        x_hat=x_hat,
        format=PixelFormat(gray=gray),
        data=bytes(num_bytes),
        estimated_bits=8.0 * num_bytes - 100,
        payload_bytes=num_bytes - 30,
        encode_seconds=0.5,
        decode_seconds=0.25,
    )


def levels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)) / 255.0
