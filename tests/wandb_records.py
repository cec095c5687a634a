"""What a W&B run has written offline, read from its file: records in blocks, as in LevelDB's log."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto import wandb_internal_pb2

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
    """The one run below a run folder."""
    (path,) = folder.rglob("run-*.wandb")
    goals: dict[str, tuple[str, str]] = {}
    history: list[dict[str, Any]] = []
    artifacts: dict[str, tuple[str, list[str]]] = {}
    group = job_type = ""
    for data in _records(path.read_bytes()):
        record: Any = getattr(wandb_internal_pb2, "Record")()  # noqa: B009 (made at import, unknown to its type)
        record.ParseFromString(data)
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
        place += HEADER + length
        parts = content if kind in (FULL, FIRST) else parts + content
        if kind in (FULL, LAST):
            yield parts
