"""How the networks of a codec lie in memory, and whether they are compiled, while they are trained."""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
import torch
from torch import nn

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class MemoryLayout(L.Callback):
    """Filter banks in a memory format, and networks through `torch.compile`, from the start of a fit to its end.

    memory_format: `contiguous` (channel by channel, PyTorch's default) or `channels_last`, which processors with
    matrix instructions multiply faster. compiled: each network of the codec is compiled for the crops of the training;
    needs a C++ compiler on a CPU. Neither changes a checkpoint's names or shapes. `ValueError`: another format.
    """

    def __init__(self, *, memory_format: str, compiled: bool) -> None:
        if memory_format not in FORMATS:
            raise ValueError(f"trainer.memory_format={memory_format}: there are {' and '.join(FORMATS)}")
        self.memory_format = FORMATS[memory_format]
        self.compiled = compiled

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del trainer
        pl_module.to(memory_format=self.memory_format)
        if self.compiled:
            for network in _networks(pl_module):
                network.compile(dynamic=False)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the layout back: what is tested and coded next is computed as in every other run."""
        del trainer
        pl_module.to(memory_format=torch.contiguous_format)
        for network in _networks(pl_module):
            network._compiled_call_impl = None


def _networks(pl_module: L.LightningModule) -> Iterator[nn.Sequential]:
    """The sequences of layers that are directly the codec's."""
    codec = pl_module.codec
    assert isinstance(codec, nn.Module)
    return (part for part in codec.children() if isinstance(part, nn.Sequential))
