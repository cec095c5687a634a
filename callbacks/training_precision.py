"""The precision `auto`: training steps in bfloat16 where the processor multiplies it natively, all else in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.plugins import MixedPrecision


class TrainingPrecision(MixedPrecision):
    """Autocast to bfloat16 around training steps alone: what is validated, tested and coded is always float32.

    Weights, optimizer, entropy models and loss are in float32 throughout.
    """

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)

    @contextmanager
    def val_step_context(self) -> Iterator[None]:
        yield

    @contextmanager
    def test_step_context(self) -> Iterator[None]:
        yield

    @contextmanager
    def predict_step_context(self) -> Iterator[None]:
        yield


def multiplies_bfloat16(accelerator: str) -> bool:
    """Return whether this machine has instructions for it: elsewhere it is emulated, and slower than float32."""
    if accelerator == "gpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return accelerator == "cpu" and torch.cpu._is_avx512_bf16_supported()


def quickest_precision(accelerator: str) -> dict[str, object]:
    """Return what `auto` means on this machine, as arguments of `lightning.Trainer`. accelerator: cpu or gpu."""
    if not multiplies_bfloat16(accelerator):
        return {"precision": "32-true"}
    return {"plugins": [TrainingPrecision("cuda" if accelerator == "gpu" else "cpu")]}
