"""Random numbers of the sender alone: no file depends on how they are made, but the same input gives the same file."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.coding.shared_randomness import halves, philox4x32, signed_64
from lightning_modules.exact.torch_functions import ln

PRIVATE_TAG = 0x2545F491
"""First word of the counter's last place, where shared randomness has the block."""


def uniforms(seed: int, blocks: Tensor, variable: int, candidates: range) -> Tensor:
    """(N, n) float64, multiples of 2^-33 strictly between 0 and 1, addressed by block, variable and candidate."""
    numbers = torch.arange(candidates.start, candidates.stop, device=blocks.device)
    words = philox4x32((numbers[None], blocks[:, None], variable, PRIVATE_TAG), halves(signed_64(seed)))
    return (words[0].to(torch.float64) + 0.5) / float(1 << 32)


def exponentials(seed: int, blocks: Tensor, variable: int, candidates: range) -> Tensor:
    """(N, n) of mean 1."""
    return -ln(uniforms(seed, blocks, variable, candidates))
