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
from lightning_modules.codec import REPORT_COLUMNS, CodedImage, Failure

RESULTS_NAME = "results.csv"

IndexedRow = tuple[int, dict[str, Any]]
"""(position of the image in the data set, its row)."""


class PerImageResults(L.Callback):
    """Collects a row per image while testing; the first process merges what all of them leave as files.

    Image `k` of process `r` of `n` is number `k * n + r` of the data set, as the test samplers deal them.
    """

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        del trainer, pl_module
        self.rows: list[IndexedRow] = []

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        del pl_module, batch, dataloader_idx
        index = batch_idx * trainer.world_size + trainer.global_rank
        match outputs:
            case Failure(name, error):
                self.rows.append((index, {"name": name, "status": "failed", "error": error}))
            case CodedImage(name=name):
                self.rows.append((index, {"name": name, "status": "ok", **coded_row(outputs)}))

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


def results_table(rows: list[IndexedRow]) -> str:
    """The rows as CSV, in the order of their positions."""
    text = io.StringIO()
    accounts = dict.fromkeys(name for _, row in rows for name in row.get("accounts", {}))
    writer = csv.DictWriter(text, [*REPORT_COLUMNS, *accounts], lineterminator="\n")
    writer.writeheader()
    for _, row in sorted(rows, key=lambda item: item[0]):
        cells = {column: row.get(column) for column in REPORT_COLUMNS} | row.get("accounts", {})
        writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in cells.items()})
    return text.getvalue()


def _part(folder: Path, rank: int) -> Path:
    return folder / f".results.{rank}.json"
