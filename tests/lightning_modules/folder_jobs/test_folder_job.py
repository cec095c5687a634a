"""A folder job loses nothing, does nothing twice, and tells the truth, whatever happens to its processes."""

from __future__ import annotations

import csv
import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import resource
import signal
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_modules.errors import CodingError
from lightning_modules.folder_jobs import claims, folder_job
from lightning_modules.folder_jobs.file_names import Item, compressed_name, decoded_name
from lightning_modules.folder_jobs.folder_job import FolderJob
from lightning_modules.folder_jobs.job_report import CHANGED, NOT_DONE
from lightning_modules.records import REPORT_COLUMNS
from lightning_modules.system import atomic_file, worker

FORK = multiprocessing.get_context("fork")
NUMBERS = {"height": 1, "width": 2, "bytes": 3, "psnr": 30.0}
Process = multiprocessing.context.ForkProcess


def start(target: Callable[..., None], *arguments: object) -> Process:
    process = FORK.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def make_items(folder: Path, sizes: dict[str, int]) -> list[Item]:
    for name, size in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(size))
    return [(name, folder / name) for name in sizes]


def many_items(folder: Path, count: int) -> list[Item]:
    return make_items(folder, {f"part {i % 3}/picture {i}.png": 10 + i for i in range(count)})


def sealed(name: str) -> bytes:
    """Bytes that tell whether they are whole."""
    content = os.fsencode(name) * 400
    return hashlib.sha256(content).digest() + content


def is_whole(data: bytes) -> bool:
    return hashlib.sha256(data[32:]).digest() == data[:32]


def work(job: FolderJob, items: list[Item], before: Callable[[str], None] = lambda name: None) -> list[str]:
    """Do what is pending; the names done."""
    done = []
    for name, _ in job.pending(items):
        before(name)
        job.finish(name, compressed_name(name), sealed(name), {"height": 1, "width": 2, "bytes": 3, "psnr": 30.0})
        done.append(name)
    return done


def run(output: Path, items: list[Item]) -> list[str]:
    """A whole run of the job, its report included."""
    job = FolderJob(output)
    done = work(job, items)
    job.write_report(items)
    return done


def outcomes(job: FolderJob, items: list[Item]) -> list[str]:
    return [row["status"] for row in job.report.rows(items)]


def outputs(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.suffix == ".lpc"}


# ---- names


@pytest.mark.parametrize(
    ("name", "compressed", "decoded"),
    [
        ("b.png", "b.png.lpc", "b.png"),
        ("a/b.png", "a/b.png.lpc", "a/b.png"),
        ("c.jpg", "c.jpg.lpc", "c.jpg.png"),
        ("D.PNG", "D.PNG.lpc", "D.PNG"),
        ("no suffix", "no suffix.lpc", "no suffix.png"),
        ("über/ß 1.webp", "über/ß 1.webp.lpc", "über/ß 1.webp.png"),
    ],
)
def test_names_mirror_the_input_and_come_back_as_png(name: str, compressed: str, decoded: str) -> None:
    assert compressed_name(name) == compressed
    assert decoded_name(compressed) == decoded


# ---- sharing


def test_items_come_largest_first(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", {"small": 1, "large": 300, "middle": 20, "large too": 300})
    assert work(FolderJob(tmp_path / "out"), items) == ["large", "large too", "middle", "small"]


def _share(output: Path, items: list[Item], log: Path, seconds: float, leave: Callable[[], object]) -> None:
    names = work(FolderJob(output), items, before=lambda name: time.sleep(seconds))
    log.write_text("\n".join(names))
    leave()


@pytest.mark.parametrize("count", [1, 2, 40])
def test_two_processes_share_a_folder_without_duplicate_or_gap(tmp_path: Path, count: int) -> None:
    items = many_items(tmp_path / "in", count)
    logs, together = [tmp_path / "first", tmp_path / "second"], FORK.Barrier(2)
    processes = [
        start(_share, tmp_path / "out", items, log, seconds, together.wait)
        for log, seconds in zip(logs, [0.002, 0.008], strict=True)
    ]
    for process in processes:
        process.join(30)
    shares = [log.read_text().splitlines() for log in logs]
    assert sorted(shares[0] + shares[1]) == sorted(name for name, _ in items)
    assert outcomes(FolderJob(tmp_path / "out"), items) == ["ok"] * count
    if count == 40:
        assert len(shares[0]) > len(shares[1]) > 0, "the faster process takes more"


def _hang_at(output: Path, items: list[Item], name: str, started: Path) -> None:
    def hang(current: str) -> None:
        if current == name:
            started.touch()
            time.sleep(600)

    work(FolderJob(output), items, before=hang)


@pytest.mark.faults
def test_a_survivor_takes_over_what_a_killed_process_was_working_on(tmp_path: Path) -> None:
    items = many_items(tmp_path / "in", 12)
    victim_item, started = items[-1][0], tmp_path / "started"
    victim = start(_hang_at, tmp_path / "out", items, victim_item, started)
    _wait_for(started.exists)
    log = tmp_path / "survivor"
    survivor = start(_share, tmp_path / "out", items, log, 0.0, list)
    _wait_for(lambda: len(outputs(tmp_path / "out")) == len(items) - 1)
    assert survivor.is_alive(), "it waits for the item that is still being worked on"
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)  # not reaped yet: a zombie counts as dead
    survivor.join(30)
    assert survivor.exitcode == 0
    assert victim_item in log.read_text().splitlines()
    assert outcomes(FolderJob(tmp_path / "out"), items) == ["ok"] * len(items)
    victim.join()


def test_a_caller_that_fetches_ahead_is_not_made_to_wait_for_itself(tmp_path: Path) -> None:
    items = many_items(tmp_path / "in", 3)
    job = FolderJob(tmp_path / "out")
    pending, fetched = job.pending(items), []
    ahead = next(pending, None)
    while ahead is not None:
        current, ahead = ahead, next(pending, None)
        job.finish(current[0], compressed_name(current[0]), b"x", {})
        fetched.append(current)
    assert len(fetched) == 3
    assert outcomes(job, items) == ["ok"] * 3


def test_two_callers_that_fetch_ahead_do_not_wait_for_each_other(tmp_path: Path) -> None:
    items = many_items(tmp_path / "in", 2)
    mine, other = FolderJob(tmp_path / "out"), start(_hold, tmp_path / "out", items[:1])
    _wait_for(lambda: any((tmp_path / "out" / ".latentpress" / "claims").glob("*.0")))
    pending = mine.pending(items)
    assert next(pending) == items[1]
    assert list(pending) == []
    other.kill()
    other.join()


def _hold(output: Path, items: list[Item]) -> None:
    pending = FolderJob(output).pending(items)
    next(pending)
    time.sleep(600)
    del pending


def test_an_iterator_given_up_gives_its_items_back(tmp_path: Path) -> None:
    items = many_items(tmp_path / "in", 3)
    job = FolderJob(tmp_path / "out")
    pending = job.pending(items)
    next(pending)
    pending.close()  # type: ignore[attr-defined]
    assert len(work(job, items)) == 3


def test_a_claim_of_a_silent_foreign_machine_is_free_after_a_while_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = make_items(tmp_path / "in", {"a.png": 5})
    elsewhere = worker.Worker("other-host", 1, "7")
    with monkeypatch.context() as patch:
        patch.setattr(claims, "this_worker", lambda: elsewhere)
        FolderJob(tmp_path / "out").check_writable()
        assert claims.Claims(tmp_path / "out" / ".latentpress" / "claims").take("a.png", None)
    monkeypatch.setattr(claims, "PATIENCE", 0.6)
    start = time.monotonic()
    assert work(FolderJob(tmp_path / "out"), [item]) == ["a.png"]
    assert time.monotonic() - start > 0.5


def test_an_empty_claim_left_by_a_kill_is_free_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (item,) = make_items(tmp_path / "in", {"a.png": 5})
    job = FolderJob(tmp_path / "out")
    job.check_writable()
    claims._claim_path(tmp_path / "out" / ".latentpress" / "claims", "a.png", 0).touch()
    monkeypatch.setattr(claims, "PATIENCE", 0.3)
    assert work(job, [item]) == ["a.png"]


def test_a_process_number_used_again_is_another_worker() -> None:
    mine = worker.this_worker()
    assert worker.is_alive(mine) is True
    assert worker.is_alive(mine._replace(start="1")) is False
    assert worker.is_alive(mine._replace(machine="elsewhere")) is None
    assert worker.Worker.from_label(mine.label) == mine


# ---- kill -9


def _finish_again_and_again(output: Path, folder: Path) -> None:
    job = FolderJob(output)
    for turn in itertools.count():
        name = f"{turn % 5}.png"
        job.finish(name, compressed_name(name), sealed(f"{turn} of {os.getpid()}"), {})
        job.finish(name, f"picture {turn}.png", sealed(f"{turn}"), {})


@pytest.mark.faults
def test_kill_9_at_any_moment_leaves_no_partial_file_under_a_final_name(tmp_path: Path) -> None:
    output, rng = tmp_path / "out", random.Random(0)
    FolderJob(output).check_writable()
    seen = 0
    for _ in range(60):
        process = start(_finish_again_and_again, output, tmp_path)
        while not list(output.glob("picture*")) and process.is_alive():
            time.sleep(0.001)
        time.sleep(0.02 * rng.random())
        process.kill()
        process.join()
        finals = [path for path in output.iterdir() if path.is_file() and not path.name.startswith(".")]
        assert all(is_whole(path.read_bytes()) for path in finals)
        seen += len(finals)
        FolderJob(output).check_writable()
        left = [path.name for path in output.rglob(f"{atomic_file.PREFIX}*") if path.is_file()]
        assert left == []
        for path in output.glob("picture*"):
            path.unlink()
    assert seen > 60, "the kills came before a second file was written"


def _work_slowly(output: Path, items: list[Item]) -> None:
    work(FolderJob(output), items, before=lambda name: time.sleep(0.01))


@pytest.mark.faults
def test_the_same_command_after_kills_does_exactly_what_is_missing(tmp_path: Path) -> None:
    items, rng = many_items(tmp_path / "in", 30), random.Random(1)
    done_before: dict[str, bytes] = {}
    for _ in range(6):
        process = start(_work_slowly, tmp_path / "out", items)
        while len(outputs(tmp_path / "out")) <= len(done_before):  # however busy the machine is
            time.sleep(0.005)
        time.sleep(0.01 * rng.random())
        process.kill()
        process.join()
        done = outputs(tmp_path / "out")
        assert done_before.items() <= done.items()
        done_before = done
    assert 0 < len(done_before) < 30
    job = FolderJob(tmp_path / "out")
    redone = work(job, items)
    assert sorted(redone) == sorted(name for name, _ in items if compressed_name(name) not in done_before)
    assert set(outcomes(job, items)) <= {"ok", "skipped"}
    assert work(FolderJob(tmp_path / "out"), items) == []


# ---- doing again what is missing or damaged


def test_resuming_redoes_the_damaged_the_missing_the_changed_and_the_failed_and_nothing_else(
    tmp_path: Path,
) -> None:
    names = ["flipped", "truncated", "missing", "input changed", "failed", "good", "good too"]
    items = make_items(tmp_path / "in", {name: 9 for name in names})
    out, job = tmp_path / "out", FolderJob(tmp_path / "out")
    for name, _ in job.pending(items):
        if name == "failed":
            job.fail(name, "failed: no picture\nsecond line")
        else:
            job.finish(name, compressed_name(name), sealed(name), {"bytes": 1})
    report = _read_report(job.write_report(items))
    assert report["failed"]["error"] == "failed: no picture second line"
    assert job.report.faults == ["failed: no picture second line"]
    assert job.report.failed == 1

    flipped = bytearray((out / "flipped.lpc").read_bytes())
    flipped[50] ^= 1
    (out / "flipped.lpc").write_bytes(flipped)
    (out / "truncated.lpc").write_bytes(sealed("truncated")[:-1])
    (out / "missing.lpc").unlink()
    (tmp_path / "in" / "input changed").write_bytes(b"another one")

    again = FolderJob(out)
    assert sorted(work(again, items)) == ["failed", "flipped", "input changed", "missing", "truncated"]
    report = _read_report(again.write_report(items))
    assert {name: row["status"] for name, row in report.items()} == {
        name: "skipped" if name.startswith("good") else "ok" for name in names
    }
    assert report["good"]["bytes"] == "1", "a skipped row still has its numbers"
    assert again.report.failed == 0


def test_another_key_means_doing_everything_again(tmp_path: Path) -> None:
    items = many_items(tmp_path / "in", 3)
    assert len(work(FolderJob(tmp_path / "out", key="model 1"), items)) == 3
    assert len(work(FolderJob(tmp_path / "out", key="model 1"), items)) == 0
    assert len(work(FolderJob(tmp_path / "out", key="model 2"), items)) == 3


def _fail_all(output: Path, items: list[Item], quit_: Path) -> None:
    job = FolderJob(output)
    for name, _ in job.pending(items):
        job.fail(name, "bad")
    quit_.with_name("failed all").touch()
    _wait_for(quit_.exists)
    job.write_report(items)
    quit_.with_name("reported").touch()
    time.sleep(600)


def test_a_peer_that_starts_late_does_not_repeat_the_run_in_progress_but_a_new_run_retries_failures(
    tmp_path: Path,
) -> None:
    items, quit_ = many_items(tmp_path / "in", 2), tmp_path / "quit"
    peer = start(_fail_all, tmp_path / "out", items, quit_)
    _wait_for((tmp_path / "failed all").exists)
    assert work(FolderJob(tmp_path / "out"), items) == []
    quit_.touch()
    _wait_for((tmp_path / "reported").exists)
    assert len(work(FolderJob(tmp_path / "out"), items)) == 2, "though the first run's process still lives"
    peer.kill()
    peer.join()


def test_a_journal_line_cut_short_is_ignored(tmp_path: Path) -> None:
    items = many_items(tmp_path / "in", 2)
    job = FolderJob(tmp_path / "out")
    work(job, items)
    (journal,) = (tmp_path / "out" / ".latentpress" / "journal").iterdir()
    with journal.open("ab") as file:
        file.write(b'\n{"name": "part 0/picture 0.png", "status": "fai')
    (journal.parent / "noise.jsonl").write_bytes(b'\xff\x00\n[]\n{"name": 3, "time": 1.0}\n17\n')
    assert work(FolderJob(tmp_path / "out"), items) == []
    job.fail(items[0][0], "written after the fragment")
    assert outcomes(FolderJob(tmp_path / "out"), items) == ["failed", "skipped"]


# ---- the report


def _read_report(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_the_report_has_one_row_per_input_in_input_order_and_the_promised_columns(tmp_path: Path) -> None:
    names = ["b.png", "a, with comma.png", 'quote".png', "nested/c.png", "new\nline.png", "z.png"]
    items = make_items(tmp_path / "in", {name: 5 + len(name) for name in names})
    job = FolderJob(tmp_path / "out")
    work(job, items[:-1])
    path = job.write_report(items)
    with path.open(newline="") as file:
        assert file.readline().rstrip("\n").split(",") == list(REPORT_COLUMNS)
    report = _read_report(path)
    assert list(report) == names
    assert report["nested/c.png"] == dict.fromkeys(REPORT_COLUMNS, "") | {
        "name": "nested/c.png",
        "status": "ok",
        "height": "1",
        "width": "2",
        "bytes": "3",
        "psnr": "30.0",
    }
    assert report["z.png"]["status"] == "failed"
    assert report["z.png"]["error"] == NOT_DONE
    assert job.report.failed == 1


def test_the_report_calls_nothing_ok_that_is_not_there(tmp_path: Path) -> None:
    items = many_items(tmp_path / "in", 3)
    job = FolderJob(tmp_path / "out")
    work(job, items)
    (tmp_path / "out" / compressed_name(items[1][0])).write_bytes(b"damaged")
    assert outcomes(job, items) == ["ok", "failed", "ok"]


@pytest.mark.faults
def test_an_item_claimed_again_and_lost_is_not_reported_by_its_old_outcome(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", {"a.png": 4})
    run(tmp_path / "out", items)
    items[0][1].write_bytes(b"a new input")
    process = start(_hold, tmp_path / "out", items)
    _wait_for(lambda: any((tmp_path / "out" / ".latentpress" / "claims").glob("*.0")))
    process.kill()
    process.join()
    (row,) = FolderJob(tmp_path / "out").report.rows(items)
    assert (row["status"], row["error"]) == ("failed", NOT_DONE)


@pytest.mark.faults
def test_an_input_replaced_while_the_job_runs_is_not_reported_as_done_and_is_done_by_the_next_run(
    tmp_path: Path,
) -> None:
    items, out = many_items(tmp_path / "in", 3), tmp_path / "out"
    late, replaced, gone = (item[0] for item in items)

    def meddle(name: str) -> None:
        if name == replaced:
            (tmp_path / "in" / name).write_bytes(b"another picture")
        if name == gone:
            (tmp_path / "in" / name).unlink()

    job = FolderJob(out)
    assert sorted(work(job, items, before=meddle)) == sorted(name for name, _ in items)
    report = _read_report(job.write_report(items))
    assert {name: row["status"] for name, row in report.items()} == {late: "ok", replaced: "failed", gone: "ok"}
    assert report[replaced]["error"] == CHANGED
    again = FolderJob(out)
    assert work(again, items[:2]) == [replaced]
    assert outcomes(again, items[:2]) == ["skipped", "ok"]


def test_progress_sees_what_every_process_did_in_this_run(tmp_path: Path) -> None:
    items = many_items(tmp_path / "in", 5)
    run(tmp_path / "out", items[:2])
    watcher = FolderJob(tmp_path / "out")
    assert watcher.arrivals() == []
    process = start(_work_slowly, tmp_path / "out", items)
    process.join()
    arrivals = watcher.arrivals()
    assert sorted(row["status"] for row in arrivals) == ["ok"] * 3 + ["skipped"] * 2
    assert watcher.plan() == (5, sum(path.stat().st_size for _, path in items))
    assert watcher.arrivals() == []


# ---- awkward names, and names that lead outside


@pytest.mark.parametrize(
    "name",
    ["with space.png", "ünï/cödé 图.png", "n" * 240 + ".png", os.fsdecode(b"not utf-8 \xff.png"), "-rf.png"],
)
def test_awkward_names_work(tmp_path: Path, name: str) -> None:
    items = make_items(tmp_path / "in", {name: 3})
    job = FolderJob(tmp_path / "out")
    assert work(job, items) == [name]
    assert is_whole((tmp_path / "out" / f"{name}.lpc").read_bytes())
    assert list(_read_report(job.write_report(items))) == [name]
    assert work(FolderJob(tmp_path / "out"), items) == []


def test_a_name_too_long_for_the_file_system_is_one_clear_line(tmp_path: Path) -> None:
    name = "n" * 252
    with pytest.raises(CodingError, match="name is too long") as raised:
        FolderJob(tmp_path / "out").finish(name, compressed_name(name), b"", {})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["../a.lpc", "a/../../a.lpc", "/a.lpc", "", ".", "..", "link/a.lpc", "a\0b"])
def test_no_output_is_written_outside_the_folder(tmp_path: Path, name: str) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (out / "link").symlink_to(outside)
    before = {path for path in tmp_path.rglob("*") if out not in path.parents}
    with pytest.raises(CodingError, match="outside"):
        FolderJob(out).finish("a", name, b"data", {})
    assert {path for path in tmp_path.rglob("*") if out not in path.parents} == before


def test_no_output_is_written_into_the_state_folder(tmp_path: Path) -> None:
    with pytest.raises(CodingError, match="outside"):
        FolderJob(tmp_path).finish("a", ".latentpress/journal/a.lpc", b"data", {})


def test_a_state_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".latentpress").symlink_to(tmp_path)
    with pytest.raises(CodingError, match="is a link"):
        FolderJob(tmp_path / "out").check_writable()


def test_a_link_at_the_final_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target, out = tmp_path / "target", tmp_path / "out"
    target.write_bytes(b"keep me")
    out.mkdir()
    (out / "a.lpc").symlink_to(target)
    FolderJob(out).finish("a", "a.lpc", b"data", {})
    assert target.read_bytes() == b"keep me"
    assert (out / "a.lpc").read_bytes() == b"data"


def test_decoding_into_the_folder_of_the_originals_never_overwrites_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"the original")
    job = FolderJob(tmp_path)
    with pytest.raises(CodingError, match="exists and was not made from"):
        job.finish("a.png.lpc", decoded_name("a.png.lpc"), b"decoded", {})
    assert (tmp_path / "a.png").read_bytes() == b"the original"
    job.finish("b.png.lpc", "b.png", b"decoded", {})
    FolderJob(tmp_path).finish("b.png.lpc", "b.png", b"decoded again", {})
    assert (tmp_path / "b.png").read_bytes() == b"decoded again"
    with pytest.raises(CodingError, match="exists and was not made from"):
        job.finish("b.lpc", decoded_name("b.lpc"), b"of another file", {})


def test_a_table_that_is_no_report_is_never_overwritten(tmp_path: Path) -> None:
    table = tmp_path / "report.csv"
    table.write_text("sales,2019\n")
    with pytest.raises(CodingError, match="exists and is no report; move it away"):
        FolderJob(tmp_path).check_writable()
    assert table.read_text() == "sales,2019\n"
    table.unlink()
    for _ in range(2):
        job = FolderJob(tmp_path)
        job.check_writable()
        job.write_report([])


def _decode(output: Path) -> None:
    job = FolderJob(output)
    for name, _ in job.pending([("a.png.lpc", output / "a.png.lpc")]):
        job.finish(name, "a.png", b"decoded", {})


def _write_and_die(path: Path, data: bytes) -> None:
    atomic_file.write_whole(path, data)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.faults
def test_an_output_whose_process_was_killed_right_after_naming_it_is_done_and_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png.lpc").write_bytes(b"coded")
    with monkeypatch.context() as patch:
        patch.setattr(folder_job, "write_whole", _write_and_die)
        process = start(_decode, tmp_path)
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "a.png").read_bytes() == b"decoded"
    item = ("a.png.lpc", tmp_path / "a.png.lpc")
    assert [row["status"] for row in FolderJob(tmp_path).report.rows([item])] == ["failed"]
    _decode(tmp_path)
    assert [row["status"] for row in FolderJob(tmp_path).report.rows([item])] == ["skipped"]
    (tmp_path / "a.png").write_bytes(b"damaged")
    _decode(tmp_path)
    assert [row["status"] for row in FolderJob(tmp_path).report.rows([item])] == ["ok"]
    assert (tmp_path / "a.png").read_bytes() == b"decoded"


# ---- disks that refuse


@pytest.mark.faults
@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EACCES, "permission denied; make the folder writable"),
        (errno.EROFS, "read-only; give another output="),
        (errno.EIO, "check the disk"),
    ],
)
def test_a_refusing_disk_is_one_line_leaves_no_temporary_file_and_keeps_the_old_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fault: str
) -> None:
    job = FolderJob(tmp_path)
    job.finish("a", "a.lpc", b"old", {})

    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(CodingError, match=fault) as raised:
            job.finish("a", "a.lpc", b"new", {})
    assert str(raised.value).startswith(str(tmp_path / "a.lpc"))
    assert "\n" not in str(raised.value)
    assert (tmp_path / "a.lpc").read_bytes() == b"old"
    assert list(tmp_path.glob(f"{atomic_file.PREFIX}*")) == []
    job.fail("a", str(raised.value))
    assert job.report.rows([("a", tmp_path / "input")])[0]["status"] == "failed"


def _write_beyond_limit(output: Path, result: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    job = FolderJob(output)
    job.check_writable()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        job.finish("a", "a.lpc", bytes(50_000), {})
    except CodingError as error:
        job.fail("a", str(error))
    job.finish("b", "b.lpc", bytes(100), {})
    result.write_text(json.dumps(job.report.rows([("a", output / "input"), ("b", output / "input")])))


@pytest.mark.faults
def test_a_file_that_does_not_fit_fails_alone(tmp_path: Path) -> None:
    process = start(_write_beyond_limit, tmp_path / "out", tmp_path / "result")
    process.join(30)
    first, second = json.loads((tmp_path / "result").read_text())
    assert first["status"] == "failed"
    assert "larger than the system allows" in first["error"]
    assert second["status"] == "ok"
    assert [p.name for p in (tmp_path / "out").iterdir() if p.name != ".latentpress"] == ["b.lpc"]


@pytest.mark.faults
def test_an_output_that_cannot_be_made_or_written_is_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CodingError, match="a file is in the way of a folder"):
            FolderJob(output).check_writable()

    def refuse(*arguments: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CodingError, match=r"read-only; give another output=") as raised:
        FolderJob(tmp_path / "out").check_writable()
    assert str(raised.value).startswith(str(tmp_path / "out"))


def test_checking_removes_what_dead_writers_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    FolderJob(tmp_path).check_writable()
    mine = worker.this_worker()
    dead = tmp_path / f"{atomic_file.PREFIX}{mine._replace(start='1').label}.0"
    old = tmp_path / f"{atomic_file.PREFIX}{mine._replace(machine='elsewhere').label}.0"
    keep = [
        tmp_path / f"{atomic_file.PREFIX}{mine.label}.77",
        tmp_path / f"{atomic_file.PREFIX}{mine._replace(machine='elsewhere').label}.1",
        tmp_path / f"{atomic_file.PREFIX}of somebody else",
        tmp_path / ".hidden",
    ]
    for path in (dead, old, *keep):
        path.touch()
    os.utime(old, (1.0, 1.0))
    FolderJob(tmp_path).check_writable()
    assert not dead.exists()
    assert not old.exists()
    assert all(path.exists() for path in keep)


def _wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


# ---- several inputs, one output


PACK = b"two pictures in one file"


def pack_all(output: Path, items: list[Item]) -> list[str]:
    """One run that packs whatever it is handed, and the outcomes."""
    taken = [name for name, _ in FolderJob(output, "packs").pending(items)]
    job = FolderJob(output, "packs")
    if taken:
        chain = [zlib.crc32(PACK + " ".join(taken).encode()), len(taken)]
        job.finish_together({name: {"chain": chain} for name in taken}, f"pack-{min(taken)}.lpc", PACK)
    job.write_report(items)
    return outcomes(FolderJob(output, "packs"), items)


def test_a_pack_is_written_once_and_every_picture_of_it_is_done(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", {"a": 5, "b": 4})
    assert pack_all(tmp_path / "out", items) == ["ok", "ok"]
    assert outputs(tmp_path / "out") == {"pack-a.lpc": PACK}
    assert pack_all(tmp_path / "out", items) == ["skipped", "skipped"]


def test_one_changed_picture_means_packing_all_of_its_pack_again(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", {"a": 5, "b": 4})
    pack_all(tmp_path / "out", items)
    (tmp_path / "in" / "b").write_bytes(b"another")
    assert pack_all(tmp_path / "out", items) == ["ok", "ok"]


def test_a_damaged_pack_is_made_again(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", {"a": 5, "b": 4})
    pack_all(tmp_path / "out", items)
    (tmp_path / "out" / "pack-a.lpc").write_bytes(b"damaged")
    assert [row["status"] for row in FolderJob(tmp_path / "out", "packs").report.rows(items)] == ["failed", "failed"]
    assert pack_all(tmp_path / "out", items) == ["ok", "ok"]


def test_files_that_a_pack_replaces_go_but_none_that_was_changed_since(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", {"a": 5, "b": 4})
    run(tmp_path / "out", items)
    (tmp_path / "out" / "b.lpc").write_bytes(b"somebody's own")
    pack_all(tmp_path / "out", items)
    assert outputs(tmp_path / "out") == {"pack-a.lpc": PACK, "b.lpc": b"somebody's own"}


def test_an_input_is_done_only_while_all_that_came_of_it_is_there(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", {"a": 5})

    def unpack_again() -> list[str]:
        for name, _ in FolderJob(tmp_path / "out").pending(items):
            job = FolderJob(tmp_path / "out")
            job.attach(name, "second.lpc", b"second")
            job.finish(name, "first.lpc", b"first", {})
        return outcomes(FolderJob(tmp_path / "out"), items)

    assert unpack_again() == ["ok"]
    assert unpack_again() == ["skipped"]
    (tmp_path / "out" / "second.lpc").unlink()
    assert unpack_again() == ["ok"]
    assert outputs(tmp_path / "out") == {"first.lpc": b"first", "second.lpc": b"second"}
