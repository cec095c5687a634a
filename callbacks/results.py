"""What testing has measured: a row per picture in `results.csv` of the run folder, and their means in the log."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torchmetrics import MeanMetric, MetricCollection, SumMetric

from callbacks.image_quality import Distance, SetDistance, image_distances, image_rates, shown, try_distances
from callbacks.image_row import coded_row
from callbacks.run_file import write_run_file
from lightning_modules.codec import Codec
from lightning_modules.records import REPORT_COLUMNS, CodedImage, Failure

RESULTS_NAME = "results.csv"
RESULT_COLUMNS = (*REPORT_COLUMNS, "lmbda", "loss")
"""lmbda: weight of the loss. loss: lmbda * mse + bpp, of the 8-bit pixels and the whole file that are reported."""

AVERAGED = ("psnr", "ms_ssim", "bpp", "bpp_estimated", "bpp_payload")

IndexedRow = tuple[int, dict[str, Any]]
"""(position of the image in the data set, its row)."""


class Results(L.Callback):
    """Logs `test/psnr`, ... (`AVERAGED`), `test/NAME` of each of `distances`, and `test/failed`; writes the table.

    Means are over all images of all processes, each image once and with equal weight, however they are shared. The
    table is in input order: the first process merges what all of them leave as files. Image `k` of process `r` of `n`
    is number `k * n + r` of the data set, as the test samplers deal them.

    lmbda: weight of the loss; None: what the codec was trained for. distances: by name; those of each picture are
    further columns of the table, those of whole sets are only logged.
    """

    def __init__(
        self, lmbda: float | None = None, distances: Mapping[str, Distance | SetDistance] | None = None
    ) -> None:
        self.lmbda = lmbda
        self.distances: dict[str, Distance] = {}
        self.set_distances: dict[str, SetDistance] = {}
        for name, distance in (distances or {}).items():
            if isinstance(distance, SetDistance):
                self.set_distances[name] = distance
            else:
                self.distances[name] = distance

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        del trainer
        if stage == "test":
            try_distances(self.distances, pl_module.device)
            for set_distance in self.set_distances.values():
                set_distance.to(pl_module.device)
        means = {name: MeanMetric(nan_strategy="ignore") for name in (*AVERAGED, *self.distances)}
        self.metrics = MetricCollection({**means, "failed": SumMetric()}, compute_groups=False)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts from nothing, with weight zero: a process may get no image at all."""
        del trainer
        self.rows: list[IndexedRow] = []
        self.count = 0
        self.metrics.to(pl_module.device).reset()
        self.metrics.update(0.0, weight=0.0)
        for set_distance in self.set_distances.values():
            set_distance.reset()

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch_and_indices: Any
    ) -> None:
        del batch_and_indices
        for output in outputs:
            index = self.count * trainer.world_size + trainer.global_rank
            self.count += 1
            match output:
                case Failure(name, error):
                    self.metrics["failed"].update(1)
                    self.rows.append((index, {"name": name, "status": "failed", "error": error}))
                case CodedImage():
                    self.rows.append((index, self._measure(output, self._lmbda_of(pl_module))))

    def _measure(self, image: CodedImage, lmbda: float | None) -> dict[str, Any]:
        row, distances = coded_row(image), self._distances_of(image)
        for name in AVERAGED:
            value = (row | image_rates(image))[name]
            self.metrics[name].update(float("nan") if value is None else value)
        for name, value in distances.items():
            self.metrics[name].update(float("nan") if value is None else value)
        row["accounts"] = distances | row["accounts"]
        return {"name": image.name, "status": "ok", **row, **rate_distortion_loss(row, lmbda)}

    def _distances_of(self, image: CodedImage) -> dict[str, float | None]:
        """Return those of the picture; those of sets take it in."""
        if self.set_distances:
            x, x_hat = shown(image)
            with torch.no_grad():
                for set_distance in self.set_distances.values():
                    set_distance.update(x, x_hat)
        return image_distances(image, self.distances)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reduce and log the means; every process takes part, also one that had no image."""
        del trainer
        values = {f"test/{name}": metric.compute() for name, metric in self.metrics.items()}
        values |= {f"test/{name}": torch.tensor(one.compute()) for name, one in self.set_distances.items()}
        pl_module.log_dict(values, sync_dist=False)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del pl_module
        folder = Path(trainer.default_root_dir)
        write_run_file(_part(folder, trainer.global_rank), json.dumps(self.rows))
        trainer.strategy.barrier("per-image results")
        if trainer.is_global_zero:
            parts = [_part(folder, rank) for rank in range(trainer.world_size)]
            rows = [row for part in parts for row in json.loads(part.read_text())]
            write_run_file(folder / RESULTS_NAME, results_table(rows))
            for part in parts:
                part.unlink()

    def _lmbda_of(self, pl_module: L.LightningModule) -> float | None:
        if self.lmbda is not None:
            return self.lmbda
        codec: Codec | None = getattr(pl_module, "codec", None)
        return None if codec is None else codec.hyperparameters.get("lmbda")


def rate_distortion_loss(row: dict[str, Any], lmbda: float | None) -> dict[str, Any]:
    """Return the columns `lmbda` and `loss` of a row with `bpp` and `psnr`; nothing for a codec that has no lmbda."""
    if lmbda is None:
        return {}
    mse = 255.0**2 / 10.0 ** (row["psnr"] / 10.0)
    return {"lmbda": f"{lmbda:g}", "loss": lmbda * mse + row["bpp"]}


def results_table(rows: list[IndexedRow]) -> str:
    """Return the rows as CSV, in the order of their positions."""
    text = io.StringIO()
    accounts = dict.fromkeys(name for _, row in rows for name in row.get("accounts", {}))
    writer = csv.DictWriter(text, [*RESULT_COLUMNS, *accounts], lineterminator="\n")
    writer.writeheader()
    for _, row in sorted(rows, key=lambda item: item[0]):
        cells = {column: row.get(column) for column in RESULT_COLUMNS} | row.get("accounts", {})
        writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in cells.items()})
    return text.getvalue()


def _part(folder: Path, rank: int) -> Path:
    return folder / f".results.{rank}.json"
