"""A training of small networks of SIC in this process, for tests."""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_modules.codec import amortized
from lightning_modules.records import SourceImage
from lightning_modules.sic.codec import SicCodec
from lightning_modules.sic.discriminator import Discriminator
from lightning_modules.sic.gan_module import GanModule
from lightning_modules.sic.level_schedule import LevelTable
from lightning_modules.sic.module import SicModule
from lightning_modules.sic.phase import Evenness, Phase, TripleTradeOff, WarmUp
from lightning_modules.training.learning_rate import constant
from tests.lightning_modules.sic.formulas import distance
from tests.lightning_modules.sic.small_networks import pictures, small_networks

TABLE = LevelTable(levels=4, distortion=2048.0, perception=(32.0, 8.0), rate=(64.0, 1.0))
WARM_UP = WarmUp(TABLE, distance)
CLIP = 0.5
EPOCH = 2
"""Steps."""


def progressive(samples: int = 1, epochs: int = 0) -> TripleTradeOff:
    """The main phase with the authors' numbers. epochs: of evenness."""
    return TripleTradeOff(TABLE, distance, 0.5, samples, 2.0, 1, Evenness(epochs, EPOCH, 64.0, 4.0))


def small_codec() -> SicCodec:
    return SicCodec.from_weights(small_networks().state_dict())


def settings(phase: Phase, **changes: Any) -> dict[str, Any]:
    return {
        "codec": small_codec(),
        "inference": amortized,
        "lmbda": 0.03,
        "seed": 0,
        "phase": phase,
        "median_steps": 2,
        "optimizer": partial(torch.optim.AdamW, lr=1e-3),
        "schedule": constant(warmup=0),
        **changes,
    }


def sic_module(phase: Phase = WARM_UP, **changes: Any) -> SicModule:
    return SicModule(**settings(phase, **changes))


def gan_module(phase: TripleTradeOff | None = None, **changes: Any) -> GanModule:
    """The discriminator's first weights are always the same."""
    torch.manual_seed(4)
    own: dict[str, Any] = {
        "discriminator": partial(Discriminator, condition=5, widths=[4, 6, 8, 10]),
        "discriminator_optimizer": partial(torch.optim.AdamW, lr=1e-3),
        "game": 1.0,
        "fake_weight": 0.5,
        "clip": CLIP,
        "discriminator_clip": None,
    }
    return GanModule(**settings(phase or progressive(), **own | changes))


def batches(count: int = 8, size: int = 2) -> list[Tensor]:
    """Of `size` pictures each, all different, uint8."""
    return list((255 * pictures(count, size, 3, 64, 64)).to(torch.uint8))


def trainer(steps: int, *callbacks: L.Callback, **changes: Any) -> L.Trainer:
    """Epochs of `EPOCH` steps; the main phase's clip unless the module does it."""
    return L.Trainer(
        **{
            "max_steps": steps,
            "limit_train_batches": EPOCH,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "callbacks": [*callbacks],
            **changes,
        }
    )


def fit(module: SicModule, steps: int, *callbacks: L.Callback, resume: Any = None, **changes: Any) -> L.Trainer:
    """Train up to `steps`, on the same first batches in every epoch."""
    clip = {} if isinstance(module, GanModule) else {"gradient_clip_val": CLIP}
    made = trainer(steps, *callbacks, **clip | changes)
    crops: Any = DataLoader(batches(), batch_size=None)  # type: ignore[arg-type]  # a list is a dataset
    whole: Any = DataLoader([SourceImage("a", pictures(1, 3, 40, 90))], batch_size=None)  # type: ignore[arg-type]
    made.fit(module, crops, whole, ckpt_path=resume)
    return made
