"""Exponential moving average of the codec's weights: what is validated, tested and kept of a training.

Lightning's `WeightAveraging` averages the whole module: a discriminator and the network of a perceptual distance too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

STATE_KEY = "ema"
CODEC_PREFIX = "codec."


class EMA(L.Callback):
    """average <- d average + (1 - d) weights after each optimizer step, d = min(decay, (1 + n) / (10 + n)).

    n counts the averaged steps, so that a short training is not held back by its first weights. Averaged are
    all floating-point parameters and buffers of `pl_module.codec`. The optimizer works on the raw weights;
    validation sees the average, and a finished training leaves it in the codec. A checkpoint holds the
    average in `state_dict`, since that is what everybody wants to load, and the raw weights, from which
    training resumes bit-equal, under `ema`.
    """

    def __init__(self, *, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), not {decay}")
        self.decay = decay
        self.num_steps = 0
        self.average: dict[str, Tensor] = {}
        self._raw: dict[str, Tensor] = {}  # while the average is in the codec, and from loading to fitting
        self._last_step = 0

    # ---- averaging

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the raw weights back where a resumed training finds the average in the codec."""
        del trainer
        self.average = {name: value.clone() for name, value in weights(pl_module).items()}
        self._restore_raw(pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del pl_module
        self._last_step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *outputs_and_batch: Any) -> None:
        """Once per optimizer step, however many batches are accumulated for it."""
        del outputs_and_batch
        if trainer.global_step == self._last_step:
            return
        self._last_step = trainer.global_step
        self.num_steps += 1
        decay = min(self.decay, (1 + self.num_steps) / (10 + self.num_steps))
        live = weights(pl_module)
        torch._foreach_lerp_([self.average[name] for name in live], list(live.values()), 1.0 - decay)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the codec, for a test that loads no checkpoint; all are written by now."""
        del trainer
        self._swap_in(pl_module)
        self.average, self._raw = {}, {}

    # ---- validating the average

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del trainer
        self._swap_in(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del trainer
        self._restore_raw(pl_module)

    def _swap_in(self, pl_module: L.LightningModule) -> None:
        if self.average:
            live = weights(pl_module)
            self._raw = {name: value.clone() for name, value in live.items()}
            _copy(self.average, live)
            _codec(pl_module).update()

    def _restore_raw(self, pl_module: L.LightningModule) -> None:
        if self._raw:
            _copy(self._raw, weights(pl_module))
            self._raw = {}
            _codec(pl_module).update()

    # ---- checkpoints

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        del trainer
        if self.average:
            raw = self._raw or weights(pl_module)
            checkpoint[STATE_KEY] = {"num_steps": self.num_steps, "raw": dict(raw)}
            checkpoint["state_dict"].update({CODEC_PREFIX + name: value for name, value in self.average.items()})

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Called when a training is resumed, after the codec was loaded and before it moves to its device."""
        del trainer, pl_module
        state = checkpoint.get(STATE_KEY, {"num_steps": 0, "raw": {}})
        self.num_steps, self._raw = state["num_steps"], dict(state["raw"])


def weights(pl_module: L.LightningModule) -> dict[str, Tensor]:
    """Return the floating-point state of the codec, by name; the tensors themselves, detached."""
    state = _codec(pl_module).state_dict()
    return {name: value for name, value in state.items() if value.is_floating_point()}


def _codec(pl_module: L.LightningModule) -> Any:
    codec = pl_module.codec
    assert isinstance(codec, nn.Module)
    return codec


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, value in target.items():
        value.copy_(source[name])
