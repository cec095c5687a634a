"""Folders that refuse, change or lead astray while a job runs: a line each, and nothing touched that is not ours."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import skimage
from PIL import Image

from datamodules.file_listing import list_images, named_files
from datamodules.source_images import read_source
from lightning_modules.errors import CodingError
from lightning_modules.folder_jobs.folder_job import FolderJob
from lightning_modules.folder_jobs.job_report import CHANGED
from lightning_modules.records import Failure
from tests.harness.command_line import COMPRESS, DECOMPRESS, REPOSITORY, refuse, report, run, start, succeed

pytestmark = pytest.mark.faults

NOBODY = 65534


def photo(path: Path, side: int, offset: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as image:
        image.crop((offset, offset, offset + side, offset + side)).save(path)
    return path


def compress(folder: Path, output: Path) -> tuple[str, ...]:
    return (*COMPRESS, "ckpt=demo", f"input={folder}", f"output={output}", f"hydra.run.dir={folder.parent / 'run'}")


def files_below(folder: Path, but: Path) -> dict[Path, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and but not in path.parents]
    return {path: path.read_bytes() for path in paths}


# ---- disks that are full, read-only or closed


@pytest.fixture
def own_mounts(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a shell script that may mount: as root of a name space of its own, which ordinary users may be, too."""

    def shell(script: str) -> subprocess.CompletedProcess[str]:
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=300)

    (tmp_path / "mount").mkdir()
    if not shutil.which("unshare") or shell(f"mount -t tmpfs none '{tmp_path / 'mount'}'").returncode:
        pytest.skip("this system lets nobody mount in a name space of his own")
    return shell


def test_a_full_disk_is_a_line_and_the_same_command_goes_on_when_there_is_room_or_is_refused_when_read_only(
    own_mounts: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    for i in range(12):
        photo(tmp_path / "pictures" / f"{i:02d}.png", 400, i)
    disk, kept = tmp_path / "mount", tmp_path / "kept"
    command = " ".join((sys.executable, "run.py", *compress(tmp_path / "pictures", disk)))
    done = own_mounts(
        f"""
        mount -t tmpfs -o size=80k none {disk}
        {command} 2>{tmp_path}/full; echo $?
        cat {disk}/report.csv >>{tmp_path}/full
        mkdir {kept}; cp {disk}/*.lpc {kept}
        mount -o remount,size=8m {disk}
        {command} 2>{tmp_path}/room; echo $?
        cp {disk}/report.csv {tmp_path}; cp -r {disk} {tmp_path}/whole
        mount -o remount,ro {disk}
        {command} 2>{tmp_path}/read-only; echo $?
        """
    )
    codes = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert codes == ["1", "0", "1"], done.stderr[-2000:]
    full, read_only = ((tmp_path / name).read_text() for name in ("full", "read-only"))
    assert [line for line in full.splitlines() if "the disk is full; free some space" in line]
    assert read_only.startswith("error: ")
    assert "the file system is read-only; give another output=" in read_only
    assert "Traceback" not in full + read_only
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.lpc")}
    assert 0 < len(before) < len(whole) == 12
    assert before.items() <= whole.items()
    skipped = [name for name, row in report(tmp_path).items() if row["status"] == "skipped"]
    assert skipped == sorted(name.removesuffix(".lpc") for name in before)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may walk through, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _without_rights(folder: Path, answer: Connection) -> None:
    """As a user who is not root, who may do everything."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    lines = []
    for output in (folder / "closed", folder / "closed" / "below"):
        try:
            FolderJob(output).check_writable()
        except CodingError as error:
            lines.append(str(error))
    records = [read_source(item) for item in named_files(folder / "in", list_images(folder / "in"))]
    answer.send((lines, records))


def test_missing_rights_are_a_line_for_the_job_or_for_the_one_input(open_folder: Path) -> None:
    for name in ("closed", "in/sealed"):
        (open_folder / name).mkdir(parents=True)
    picture = photo(open_folder / "in" / "picture.png", 16)
    for path, rights in ((picture, 0o000), (open_folder / "in" / "sealed", 0o000), (open_folder / "closed", 0o555)):
        path.chmod(rights)
    answer, end = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_without_rights, args=(open_folder, end))
    process.start()
    assert answer.poll(20)
    lines, records = answer.recv()
    process.join()
    (open_folder / "in" / "sealed").chmod(0o755)
    assert len(lines) == 2
    assert all("permission denied; make the folder writable or give another output=" in line for line in lines)
    assert [record.name for record in records] == ["picture.png", "sealed"]
    for record in records:
        assert isinstance(record, Failure)
        assert record.error.endswith("permission denied; make the file readable")


# ---- inputs that change


def test_inputs_that_vanish_or_change_while_the_job_runs_are_rows_that_say_so(tmp_path: Path) -> None:
    pictures, output = tmp_path / "pictures", tmp_path / "out"
    sides = {"a first.png": 500, **{f"b{i}.png": 400 - i for i in range(8)}, "c vanishing.png": 30}  # largest first
    for name, side in sides.items():
        photo(pictures / name, side)
    process = start(*compress(pictures, output))
    deadline = time.monotonic() + 120
    while not (output / "a first.png.lpc").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # so that a fast machine is not done before the changes
    (pictures / "c vanishing.png").unlink()
    photo(pictures / "a first.png", 200, 100)
    process.send_signal(signal.SIGCONT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr[-2000:]
    rows = report(output)
    failed = {name: row["error"] for name, row in rows.items() if row["status"] == "failed"}
    assert failed.keys() == {"a first.png", "c vanishing.png"}
    assert failed["a first.png"] == CHANGED
    assert "no such file (moved, or a broken link)" in failed["c vanishing.png"]
    succeed(*compress(pictures, output))
    assert {name for name, row in report(output).items() if row["status"] == "ok"} == {"a first.png"}


# ---- links, and folders inside each other


def test_nothing_outside_the_output_is_touched_even_where_links_lead_out_and_it_lies_inside_the_input(
    tmp_path: Path,
) -> None:
    pictures, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    output = pictures / "out"
    for path in (pictures / "a.png", pictures / "sub" / "b.png", elsewhere / "c.png"):
        photo(path, 40)
    output.mkdir()
    (pictures / "link.png").symlink_to(elsewhere / "c.png")
    (pictures / "circle").symlink_to(pictures)
    (pictures / "broken.png").symlink_to(elsewhere / "nothing.png")
    (elsewhere / "report.csv").write_text("name,status\n")
    (output / "report.csv").symlink_to(elsewhere / "report.csv")
    (output / "sub").symlink_to(elsewhere)
    before = files_below(tmp_path, output)
    for status in ("ok", "skipped"):
        done = run(*compress(pictures, output))
        assert done.returncode == 1, done.stderr[-2000:]
        rows = report(output)
        failed = {name: row["error"] for name, row in rows.items() if row["status"] == "failed"}
        assert rows.keys() == {"a.png", "broken.png", "link.png", "sub/b.png"}
        assert rows["a.png"]["status"] == rows["link.png"]["status"] == status
        assert "no such file (moved, or a broken link)" in failed["broken.png"]
        assert "would be written outside" in failed["sub/b.png"]
    after = files_below(tmp_path, output)
    assert {path: data for path, data in after.items() if (tmp_path / "run") not in path.parents} == before


def test_coding_and_decoding_in_the_folder_of_the_originals_leaves_them_as_they_are(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    photo(pictures / "a.png", 40)
    with Image.open(photo(pictures / "sub" / "b.png", 40)) as image:
        image.save(pictures / "sub" / "c.jpg")
    before = files_below(pictures, pictures / ".latentpress")
    succeed(*compress(pictures, pictures))
    back = (*DECOMPRESS, f"input={pictures}", f"output={pictures}", f"hydra.run.dir={tmp_path / 'run'}")
    assert "2 of 3 files failed" in refuse(*back)
    rows = report(pictures)
    assert rows["sub/c.jpg.lpc"]["status"] == "ok"
    assert (pictures / "sub" / "c.jpg.png").is_file()
    for name in ("a.png.lpc", "sub/b.png.lpc"):
        assert "exists and was not made from" in rows[name]["error"]
    assert before.items() <= files_below(pictures, pictures / ".latentpress").items()
