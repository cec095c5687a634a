"""`results.csv` in the run folder: one row per test image, in input order, whoever processed it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import lightning as L

from callbacks.image_row import coded_row
from callbacks.run_file import write_run_file
from lightning_modules.codec import REPORT_COLUMNS, Codec, CodedImage, Failure

RESULTS_NAME = "results.csv"
RESULT_COLUMNS = (*REPORT_COLUMNS, "lmbda", "loss")
"""lmbda: weight of the loss. loss: lmbda * mse + bpp, of the 8-bit pixels and the whole file that are reported."""

IndexedRow = tuple[int, dict[str, Any]]
"""(position of the image in the data set, its row)."""


class PerImageResults(L.Callback):
    """Collects a row per image while testing; the first process merges what all of them leave as files.

    lmbda: weight of the loss; None: what the codec was trained for.
    Image `k` of process `r` of `n` is number `k * n + r` of the data set, as the test samplers deal them.
    """

    def __init__(self, lmbda: float | None = None) -> None:
        self.lmbda = lmbda

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del trainer, pl_module
        self.rows: list[IndexedRow] = []
        self.count = 0

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        *batch_and_indices: Any,
    ) -> None:
        del batch_and_indices
        for output in outputs:
            index = self.count * trainer.world_size + trainer.global_rank
            self.count += 1
            match output:
                case Failure(name, error):
                    self.rows.append((index, {"name": name, "status": "failed", "error": error}))
                case CodedImage(name=name):
                    row = {"name": name, "status": "ok", **coded_row(output)}
                    self.rows.append((index, row | rate_distortion_loss(row, self._lmbda_of(pl_module))))

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
    """The columns `lmbda` and `loss` of a row with `bpp` and `psnr`; nothing for a codec that has no lmbda."""
    if lmbda is None:
        return {}
    mse = 255.0**2 / 10.0 ** (row["psnr"] / 10.0)
    return {"lmbda": f"{lmbda:g}", "loss": lmbda * mse + row["bpp"]}


def results_table(rows: list[IndexedRow]) -> str:
    """The rows as CSV, in the order of their positions."""
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
