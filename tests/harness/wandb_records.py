"""What a W&B run has written offline, read from its file: records in blocks, as in LevelDB's log."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto import wandb_internal_pb2

SECONDS = 60.0
BLOCK, HEADER = 32768, 7
FULL, FIRST, LAST = 1, 2, 4


class WandbRun(NamedTuple):
    """goals: of metrics that were defined, (axis, goal). history: a row a call. artifacts: (kind, file names)."""

    goals: dict[str, tuple[str, str]]
    history: list[dict[str, Any]]
    artifacts: dict[str, tuple[str, list[str]]]
    group: str
    job_type: str

    def keys(self) -> set[str]:
        return {key for row in self.history for key in row}

    def course(self, key: str) -> list[tuple[int, Any]]:
        """(axis, value) of each row that has the key."""
        return [(row["trainer/global_step"], row[key]) for row in self.history if key in row]


def read_run(folder: Path) -> WandbRun:
    """The one run below a run folder, once its last record is there: W&B's writer ends after `wandb.finish`."""
    (path,) = folder.rglob("run-*.wandb")
    deadline = time.monotonic() + SECONDS
    while not (found := _parsed(path))[-1:] or found[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.05)
    return _run_of(found)


def _parsed(path: Path) -> list[Any]:
    records = []
    for data in _records(path.read_bytes()):
        record: Any = getattr(wandb_internal_pb2, "Record")()  # noqa: B009 (made at import, unknown to its type)
        record.ParseFromString(data)
        records.append(record)
    return records


def _run_of(records: Iterable[Any]) -> WandbRun:
    goals: dict[str, tuple[str, str]] = {}
    history: list[dict[str, Any]] = []
    artifacts: dict[str, tuple[str, list[str]]] = {}
    group = job_type = ""
    for record in records:
        match record.WhichOneof("record_type"):
            case "run":
                group, job_type = record.run.run_group, record.run.job_type
            case "metric":
                summary = record.metric.summary
                goal = next((name for name in ("min", "max", "last") if getattr(summary, name)), "")
                goals[record.metric.name or record.metric.glob_name] = (record.metric.step_metric, goal)
            case "history":
                items = record.history.item
                history.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
            case "artifact":
                names = sorted(entry.path for entry in record.artifact.manifest.contents)
                artifacts[record.artifact.name] = (record.artifact.type, names)
    return WandbRun(goals, history, artifacts, group, job_type)


def _records(data: bytes) -> Iterator[bytes]:
    place, parts = HEADER, b""
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        content = data[place + HEADER : place + HEADER + length]
        if len(content) < length:  # being written
            return
        place += HEADER + length
        parts = content if kind in (FULL, FIRST) else parts + content
        if kind in (FULL, LAST):
            yield parts
