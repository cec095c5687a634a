"""The progress of a folder job counts what all its processes did, and ends with a table."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from rich.console import Console

from callbacks import folder_progress
from callbacks.folder_progress import FolderProgress
from lightning_modules.folder_jobs.file_names import Item
from lightning_modules.folder_jobs.folder_job import FolderJob

TRAINER: Any = SimpleNamespace(strategy=SimpleNamespace(launcher=None))
MODULE = L.LightningModule()


def terminal(is_terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=160)


def written(progress: FolderProgress) -> str:
    file = progress.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    (tmp_path / "in").mkdir()
    for name, size in {"a": 6000, "b": 3000, "c": 1000}.items():
        (tmp_path / "in" / name).write_bytes(bytes(size))
    return [(name, tmp_path / "in" / name) for name in "abc"]


def work(output: Path, items: list[Item], before: Callable[[str], object]) -> None:
    """Another process's share, as far as the journal can tell: through its own object."""
    job = FolderJob(output)
    for name, _ in job.pending(items):
        before(name)
        if name == "b":
            job.fail(name, "b: is empty")
        else:
            row = {"height": 1000, "width": 2000, "bpp": {"a": 0.5, "c": 0.1}[name], "psnr": 32.0}
            job.finish(name, f"{name}.lpc", b"data", row)


def run(progress: FolderProgress, output: Path, items: list[Item], before: Callable[[str], object]) -> str:
    progress.on_predict_start(TRAINER, MODULE)
    work(output, items, before)
    progress.on_predict_end(TRAINER, MODULE)
    return written(progress)


def test_it_ends_with_a_table_of_the_whole_job(tmp_path: Path, items: list[Item]) -> None:
    progress = FolderProgress(job=FolderJob(tmp_path / "out"), console=terminal(False))
    text = run(progress, tmp_path / "out", items, before=str)
    header, cells = (line for line in text.splitlines() if "┃" in line or "│" in line)
    assert header.replace("┃", " ").split() == (
        ["files", "ok", "skipped", "failed", "megapixels", "mean", "bpp", "mean", "PSNR", "seconds"]
    )
    assert cells.replace("│", " ").split()[:-1] == ["3", "2", "0", "1", "4.0", "0.3000", "32.00"]


def test_the_table_waits_for_what_other_processes_still_do(tmp_path: Path, items: list[Item]) -> None:
    rank = SimpleNamespace(wait=lambda: work(tmp_path / "out", items, before=str))
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=[rank])))
    progress = FolderProgress(job=FolderJob(tmp_path / "out"), console=terminal(False))
    progress.on_predict_start(trainer, MODULE)
    progress.on_predict_end(trainer, MODULE)
    assert "│ 3     │ 2  │ 0       │ 1" in written(progress)


def test_outside_a_terminal_it_prints_plain_lines_with_the_time_left(
    tmp_path: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_progress, "LINE_SECONDS", 0.02)
    progress = FolderProgress(job=FolderJob(tmp_path / "out"), console=terminal(False))

    def wait_for_line(name: str) -> None:
        expected = {"a": "0/3 files", "b": "1/3 files", "c": "2/3 files (1 failed)"}[name]
        _wait_for(lambda: expected in written(progress))

    lines = run(progress, tmp_path / "out", items, wait_for_line).splitlines()
    after_first = next(line for line in lines if line.startswith("1/3 files, 2.0 MP, "))
    assert " s, about " in after_first
    assert after_first.endswith(" s left")
    assert "3/3 files (1 failed)" in "\n".join(lines)
    assert "\x1b" not in "".join(lines)


def test_in_a_terminal_it_draws_a_bar_of_input_bytes(tmp_path: Path, items: list[Item]) -> None:
    progress = FolderProgress(job=FolderJob(tmp_path / "out"), console=terminal(True))
    text = run(progress, tmp_path / "out", items, before=str)
    assert "3/3 files (1 failed)" in text
    assert "10.0/10.0 kB" in text
    assert "4.0 MP" in text


def test_of_files_that_are_done_together_it_says_how_far_they_have_come(tmp_path: Path, items: list[Item]) -> None:
    class Busy(L.LightningModule):
        progress_message = "coding 24"

    progress = FolderProgress(job=FolderJob(tmp_path / "out"), console=terminal(False))
    progress.on_predict_start(TRAINER, Busy())
    progress.on_predict_end(TRAINER, Busy())
    assert "files, coding 24, 0.0 MP" in written(progress)


def test_processes_other_than_the_first_are_silent_and_no_thread_is_left(tmp_path: Path, items: list[Item]) -> None:
    progress = FolderProgress(job=FolderJob(tmp_path / "out"), console=terminal(False))
    progress.disable()
    assert run(progress, tmp_path / "out", items, before=str) == ""
    assert not [thread for thread in threading.enumerate() if thread.name == "folder progress"]


def test_an_exception_stops_the_bar_without_a_table(tmp_path: Path) -> None:
    progress = FolderProgress(job=FolderJob(tmp_path / "out"), console=terminal(False))
    progress.on_predict_start(TRAINER, MODULE)
    progress.on_exception(TRAINER, MODULE, KeyboardInterrupt())
    assert "mean bpp" not in written(progress)
    assert not [thread for thread in threading.enumerate() if thread.name == "folder progress"]


def _wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
