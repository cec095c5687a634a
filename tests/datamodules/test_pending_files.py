"""A folder job's loader: one record per file, claimed only when its turn comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from datamodules import pending_files
from datamodules.file_listing import NamedFile
from datamodules.pending_files import Batches, PendingFiles
from lightning_modules.records import SourceImage

ITEMS = [(name, Path(name)) for name in ("a", "b", "c")]


class Queue:
    """Hands out every other item and writes down when."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def pending(self, items: Sequence[NamedFile]) -> Iterator[NamedFile]:
        for item in items[::2]:
            self.events.append(f"claim {item[0]}")
            yield item


class Worker(L.LightningModule):
    """Writes down each step."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def predict_step(self, batch: str, batch_idx: int) -> None:
        self.events.append(f"code {batch}")


def read(item: NamedFile) -> str:
    return item[0]


def test_without_a_queue_every_file_comes_in_order() -> None:
    assert list(PendingFiles(ITEMS, read, None)) == ["a", "b", "c"]


def test_nothing_is_claimed_before_the_first_record_is_wanted() -> None:
    queue = Queue()
    iterator = iter(PendingFiles(ITEMS, read, queue))
    assert queue.events == []
    assert next(iterator) == "a"
    assert queue.events == ["claim a"]


def test_lightning_claims_a_file_only_when_the_one_before_is_done() -> None:
    queue = Queue()
    settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", enable_model_summary=False, **settings)
    trainer.predict(Worker(queue.events), PendingFiles(ITEMS, read, queue), return_predictions=False)
    assert queue.events == ["claim a", "code a", "claim c", "code c"]


def test_a_batch_ends_when_it_holds_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_files, "MOST_PIXELS", 20)
    sides = {"a": 3, "b": 2, "c": 4, "d": 5, "e": 1}

    def picture(item: NamedFile) -> SourceImage:
        return SourceImage(item[0], torch.zeros(1, 3, sides[item[0]], sides[item[0]]))

    files = PendingFiles([(name, Path(name)) for name in sides], picture, None)
    assert [[one.name for one in batch] for batch in Batches(files, 3)] == [["a", "b", "c"], ["d"], ["e"]]
    assert [[one.name for one in batch] for batch in Batches(files, 2)] == [["a", "b"], ["c", "d"], ["e"]]
