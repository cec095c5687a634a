"""What the latents of validation pictures are like: the rate of each channel and level, and how values are spread."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from torch import Tensor

from callbacks.latent_figure import latent_figure
from callbacks.run_file import write_run_file
from callbacks.shown_pictures import ShownPictures
from lightning_modules import capabilities
from lightning_modules.codec import Codec

PICTURES = "x"
"""Latents of this name are pictures: of codecs that find their latents while they code."""


class Spread(NamedTuple):
    """A histogram: counts (n,) of values between edges (n + 1,)."""

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]


class LatentFacts(NamedTuple):
    """channels: by latent, bits per pixel of each channel, (C,). spreads: of unrounded values, by latent.

    step: optimizer steps so far. folder: of the run.
    """

    channels: Mapping[str, NDArray[np.float64]]
    spreads: Mapping[str, Spread]
    step: int
    folder: Path

    @property
    def rates(self) -> dict[str, float]:
        """Return bits per pixel of each latent: of y and z, of each level."""
        return {f"rates/{name}": float(value.sum()) for name, value in self.channels.items()}


@singledispatch
def log_latents(logger: Logger, facts: LatentFacts) -> None:
    """Log the rates of latents; a logger that holds neither tables nor histograms leaves files in `latents/`.

    `STEP_channels.csv` has `latent,channel,bpp`, `STEP_spread.csv` has `latent,from,to,count`, `STEP.png` shows both.
    """
    logger.log_metrics(facts.rates, facts.step)
    base = facts.folder / "latents"
    channels = table(("latent", "channel", "bpp"), channel_rows(facts))
    write_run_file(base / f"{facts.step:08d}_channels.csv", channels)
    spreads = [
        (name, low, high, int(count))
        for name, (counts, edges) in facts.spreads.items()
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    write_run_file(base / f"{facts.step:08d}_spread.csv", table(("latent", "from", "to", "count"), spreads))
    write_run_file(base / f"{facts.step:08d}.png", latent_figure(facts.channels, facts.spreads))


@log_latents.register
def _(logger: TensorBoardLogger, facts: LatentFacts) -> None:
    logger.log_metrics(facts.rates, facts.step)
    for name, values in facts.channels.items():
        logger.experiment.add_histogram(f"channels/{name}", values, facts.step)
    for name, (counts, edges) in facts.spreads.items():
        centres = (edges[:-1] + edges[1:]) / 2
        logger.experiment.add_histogram_raw(
            f"latents/{name}",
            min=edges[0],
            max=edges[-1],
            num=int(counts.sum()),
            sum=float((counts * centres).sum()),
            sum_squares=float((counts * centres**2).sum()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=facts.step,
        )


@log_latents.register
def _(logger: WandbLogger, facts: LatentFacts) -> None:
    import wandb

    shown: dict[str, Any] = dict(facts.rates)
    for name, (counts, edges) in facts.spreads.items():
        shown[f"latents/{name}"] = wandb.Histogram(np_histogram=(counts, edges))
    shown["channels"] = wandb.Table(["latent", "channel", "bpp"], [list(row) for row in channel_rows(facts)])
    logger.log_metrics(shown, facts.step)


def channel_rows(facts: LatentFacts) -> list[tuple[str, int, float]]:
    return [(name, number, float(bpp)) for name, row in facts.channels.items() for number, bpp in enumerate(row)]


def table(head: tuple[str, ...], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows)
    return text.getvalue()


class LatentStatistics(ShownPictures):
    """Logs `LatentFacts` of the first `num_images` pictures together, in validations 1, 2, 4, 8 ... and the last.

    bins: of the histograms. First process only; one more pass of the codec for each of these pictures.
    """

    def __init__(self, *, num_images: int, bins: int) -> None:
        super().__init__(num_images=num_images)
        self.bins = bins
        self.pixels = 0
        self.bits: dict[str, Tensor] = {}
        self.values: dict[str, list[Tensor]] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del trainer, pl_module
        self.pixels, self.bits, self.values = 0, {}, {}

    def take(self, trainer: L.Trainer, codec: Codec | None, outputs: Mapping[str, Any]) -> None:
        """Add one picture to what is logged at the end of the validation."""
        del trainer
        if codec is None:
            return
        x = outputs["x"]
        self.pixels += x.shape[-2] * x.shape[-1]
        for name, bits in capabilities.rate_map(codec, x).items():
            self.bits[name] = self.bits.get(name, 0) + bits.double().sum((0, 2, 3)).cpu()
        for name, value in codec.analyze(x).variables.items():
            if name != PICTURES:
                self.values.setdefault(name, []).append(value.float().flatten().cpu())

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del pl_module
        if self.pixels == 0:
            return
        facts = LatentFacts(
            channels={name: (bits / self.pixels).numpy() for name, bits in self.bits.items()},
            spreads={name: Spread(*np.histogram(torch.cat(v).numpy(), self.bins)) for name, v in self.values.items()},
            step=trainer.global_step,
            folder=Path(trainer.default_root_dir),
        )
        for logger in trainer.loggers:
            log_latents(logger, facts)
