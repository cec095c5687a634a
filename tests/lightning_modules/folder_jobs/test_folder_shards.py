"""A folder in shards: each file once, one report of all of them, whatever the order in which shards end."""

from __future__ import annotations

import csv
import itertools
import multiprocessing
from pathlib import Path

import pytest

from lightning_modules.folder_jobs import job_report
from lightning_modules.folder_jobs.file_names import Item, compressed_name
from lightning_modules.folder_jobs.folder_job import FolderJob
from lightning_modules.folder_jobs.job_report import ELSEWHERE
from lightning_modules.folder_jobs.shard import Shard
from lightning_modules.system.atomic_file import write_atomically

FORK = multiprocessing.get_context("fork")
TOTAL = 3


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    names = [f"{'sub/' if number % 2 else ''}{number}.png" for number in range(20)]
    for name in names:
        (folder / name).write_bytes(name.encode())
    return [(name, folder / name) for name in names]


def work(output: Path, items: list[Item], place: int, total: int = TOTAL) -> tuple[list[str], FolderJob]:
    """One shard from beginning to end: the names it did."""
    job = FolderJob(output, shard=Shard(place, total))
    done = []
    for name, path in job.pending(items):
        job.finish(name, compressed_name(name), path.read_bytes(), {"height": 1, "width": 2, "bytes": 3, "bpp": 1.0})
        done.append(name)
    job.write_report(items)
    return done, job


def report(output: Path) -> dict[str, dict[str, str]]:
    with (output / "report.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("order", list(itertools.permutations(range(TOTAL))))
def test_shards_do_every_file_once_and_the_last_report_has_them_all_in_order(
    order: tuple[int, ...], items: list[Item], tmp_path: Path
) -> None:
    output, done = tmp_path / "out", []
    for place in order:
        names, job = work(output, items, place)
        done += names
        assert (job.report.files, job.report.failed) == (len(names), 0), "a shard answers for its own files"
        assert sum(row["status"] == "ok" for row in report(output).values()) == len(done)
    assert sorted(done) == sorted(name for name, _ in items)
    assert list(report(output)) == [name for name, _ in items]


def test_what_other_shards_have_not_done_is_told_and_is_no_failure_of_this_one(
    items: list[Item], tmp_path: Path
) -> None:
    names, job = work(tmp_path / "out", items, 1)
    rows = report(tmp_path / "out")
    assert job.report.failed == 0
    assert {row["error"] for name, row in rows.items() if name not in names} == {ELSEWHERE}
    assert {row["status"] for name, row in rows.items() if name in names} == {"ok"}


def test_the_same_shard_again_does_only_what_is_missing_of_its_own(items: list[Item], tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = [work(output, items, place)[0] for place in range(TOTAL)]
    for name in (first[0][0], first[1][0]):
        (output / compressed_name(name)).unlink()
    assert work(output, items, 0)[0] == [first[0][0]]
    rows = report(output)
    assert [name for name, row in rows.items() if row["status"] == "failed"] == [first[1][0]], (
        "it is seen to be missing"
    )
    assert work(output, items, 0, total=1)[0] == [first[1][0]], "and the whole folder is the sum of its shards"


def test_shards_that_end_at_the_same_time_leave_none_out_of_the_report(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other shard does all its work, report included, between this one's look at the journal and its report."""
    output, write = tmp_path / "out", write_atomically

    def late(path: Path, data: bytes) -> None:
        if path.name == "report.csv" and not (output / "late").exists():
            (output / "late").touch()
            other = FORK.Process(target=work, args=(output, items, 1, 2))
            other.start()
            other.join(60)
            assert other.exitcode == 0
        write(path, data)

    monkeypatch.setattr(job_report, "write_atomically", late)
    work(output, items, 0, 2)
    assert {row["status"] for row in report(output).values()} == {"ok"}
