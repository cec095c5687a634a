"""Signals and kill -9 in the middle of a folder job: nothing half-done, nothing done twice, nothing forgotten."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import pytest
import skimage
from PIL import Image

from tests.harness.command_line import COMPRESS, DECOMPRESS, report, second_rank, start, succeed

pytestmark = pytest.mark.faults

NUM_PICTURES = 14
NUM_KILLS = 50
GOES_ON = "the same command goes on"


class Command(NamedTuple):
    """A compress job: its arguments, where its files go, and the pictures' names."""

    arguments: tuple[str, ...]
    output: Path
    names: list[str]

    def done(self) -> dict[str, bytes]:
        """The outputs under their final names, by picture."""
        return contents(self.output)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name.removesuffix(".lpc"): path.read_bytes() for path in folder.glob("*.lpc")}


def crops(folder: Path, count: int, side: int) -> Path:
    """Different pictures of about that many pixels on a side."""
    folder.mkdir()
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as photo:
        for i in range(count):
            box = (5 * i, 3 * i, 5 * i + side + i, 3 * i + side - i)
            photo.crop(box).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crops(tmp_path_factory.mktemp("faults") / "pictures", NUM_PICTURES, 400)


@pytest.fixture(scope="module")
def unbroken(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted job of one process makes of the pictures."""
    output = tmp_path_factory.mktemp("unbroken") / "out"
    succeed(*command(pictures, output, "cpu").arguments)
    return output


def command(pictures: Path, output: Path, trainer: str) -> Command:
    places = (f"input={pictures}", f"output={output}", f"hydra.run.dir={output.parent / 'run'}")
    names = sorted(path.name for path in pictures.iterdir())
    return Command((*COMPRESS, "ckpt=demo", f"trainer={trainer}", *places), output, names)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended before its time: " + process.communicate()[1][-2000:]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Also True of a process that is not our child; a zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def resume(job: Command, unbroken: Path) -> int:
    """Run the command again: it redoes exactly what is missing, byte by byte the same; the number redone."""
    before = job.done()
    whole = contents(unbroken)
    assert before.items() <= whole.items(), "partial files under final names"
    succeed(*job.arguments)
    assert job.done() == whole
    redone = [name for name, row in report(job.output).items() if row["status"] == "ok"]
    assert redone == [name for name in job.names if name not in before]
    assert [path for path in job.output.glob(".latentpress.*") if path.is_file()] == []
    return len(redone)


# ---- signals


@pytest.mark.parametrize(
    ("received", "trainer", "whole_group"),
    [
        pytest.param(signal.SIGINT, "cpu", True, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, "cpu", False, id="SIGTERM"),
        pytest.param(signal.SIGINT, "ddp_cpu", True, id="Ctrl-C, two ranks", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "ddp_cpu", False, id="SIGTERM, two ranks"),
    ],
)
def test_a_signal_lets_the_current_file_be_finished_and_the_same_command_goes_on(
    received: signal.Signals, trainer: str, whole_group: bool, pictures: Path, unbroken: Path, tmp_path: Path
) -> None:
    job = command(pictures, tmp_path / "out", trainer)
    process = start(*job.arguments)
    wait_for(job.done, process)
    at_the_signal = len(job.done())
    (os.killpg if whole_group else os.kill)(process.pid, received)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + received, stderr[-2000:]
    assert "Traceback" not in stderr
    assert [line.endswith(GOES_ON) for line in stderr.splitlines()].count(True) == 1
    num_ranks = 2 if trainer == "ddp_cpu" else 1
    assert len(job.done()) <= at_the_signal + 2 * num_ranks, "at most the current files, and those just being named"
    rows = report(job.output)
    assert {name for name, row in rows.items() if row["status"] == "ok"} == set(job.done())
    assert all("not done" in row["error"] for row in rows.values() if row["status"] != "ok")
    assert resume(job, unbroken) > 0


def test_a_second_signal_ends_every_rank_at_once(pictures: Path, unbroken: Path, tmp_path: Path) -> None:
    job = command(pictures, tmp_path / "out", "ddp_cpu")
    process = start(*job.arguments)
    wait_for(job.done, process)
    other = second_rank(process.pid)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=5)
    assert process.returncode == 128 + signal.SIGTERM
    assert stderr.splitlines()[-1].endswith(GOES_ON)
    assert other is not None
    time.sleep(0.5)
    assert not is_running(other)
    assert not (job.output / "report.csv").exists()
    assert contents(job.output).items() <= contents(unbroken).items()


def test_decompression_stops_in_the_same_way(unbroken: Path, tmp_path: Path) -> None:
    places = (f"input={unbroken}", f"output={tmp_path / 'png'}", f"hydra.run.dir={tmp_path / 'run'}")
    process = start(*DECOMPRESS, *places)
    wait_for(lambda: list((tmp_path / "png").glob("*.png")), process)
    os.kill(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert stderr.splitlines()[-1].endswith(GOES_ON)
    rows = report(tmp_path / "png")
    decoded = [path.name for path in (tmp_path / "png").glob("*.png")]
    assert 0 < len(decoded) < len(rows) == NUM_PICTURES
    assert {f"{name}.lpc" for name in decoded} == {name for name, row in rows.items() if row["status"] == "ok"}


# ---- kill -9


@pytest.mark.slow
@pytest.mark.parametrize("victims", ["the first rank", "the second rank", "both ranks"])
def test_kill_9_of_ranks_of_the_command_leaves_whole_files_and_the_same_command_finishes(
    victims: str, pictures: Path, unbroken: Path, tmp_path: Path
) -> None:
    job = command(pictures, tmp_path / "out", "ddp_cpu")
    process = start(*job.arguments)
    wait_for(job.done, process)
    other = second_rank(process.pid)
    assert other is not None
    for pid in {"the first rank": [process.pid], "the second rank": [other]}.get(victims, [process.pid, other]):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    has_finished = process.returncode == 0 and victims == "the second rank"  # Lightning takes up to 5 s to end it
    assert has_finished or process.returncode == -signal.SIGKILL, "an exit code of 0 with files missing"
    deadline = time.monotonic() + 30
    while is_running(other):
        assert time.monotonic() < deadline, "a rank goes on alone"
        time.sleep(0.1)
    assert (resume(job, unbroken) == 0) == has_finished, "an exit code of 0 with files missing"


FATES = (
    "both killed",
    "the second killed, soon after the first, as Lightning does",
    "the second killed, the first goes on",
    "the first killed, the second asked to stop, as it asks itself to",
    "the first killed, the second goes on",
)


@pytest.mark.slow
def test_kill_9_at_random_moments_of_a_shared_job(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    from tests.harness import forked_job

    folder, rng = crops(tmp_path / "pictures", 16, 80), random.Random(0)
    names = {path.name for path in folder.iterdir()}
    started = time.monotonic()
    for turn in range(2):  # the first one waits for the fork server to load the model
        started = time.monotonic()
        assert ended([forked_job.start(folder, tmp_path / f"unbroken{turn}") for _ in range(2)]) == [0, 0]
    seconds, whole = time.monotonic() - started, contents(tmp_path / "unbroken1")
    counts = dict.fromkeys(("killed", "redone", "partial", "redone though there", "exit 0 with a file missing"), 0)
    for trial in range(NUM_KILLS):
        output = tmp_path / f"trial{trial}"
        ranks = [forked_job.start(folder, output) for _ in range(2)]
        time.sleep(seconds * rng.uniform(0.0, 0.75))
        codes = meet(FATES[trial % len(FATES)], ranks, seconds * rng.random() / 4)
        done = contents(output)
        counts["killed"] += codes.count(-signal.SIGKILL)
        counts["partial"] += sum(data != whole[name] for name, data in done.items())
        counts["exit 0 with a file missing"] += 0 in codes and done.keys() != names
        assert ended([forked_job.start(folder, output) for _ in range(2)]) == [0, 0]
        assert contents(output) == whole
        redone = {name for name, row in report(output).items() if row["status"] == "ok"}
        counts["redone"] += len(redone)
        counts["redone though there"] += len(redone & done.keys())
        assert not [path for path in output.glob(".latentpress.*") if path.is_file()]
        shutil.rmtree(output)
    record_property(f"kill -9 at {NUM_KILLS} moments", ", ".join(f"{n} {what}" for what, n in counts.items()))
    assert counts["killed"] >= NUM_KILLS // 2, "most jobs had ended before they could be killed"
    assert counts["redone"] > NUM_KILLS, "the jobs were as good as done"
    assert counts["partial"] == counts["redone though there"] == counts["exit 0 with a file missing"] == 0


def ended(processes: list[ForkServerProcess]) -> list[int | None]:
    """The exit codes of processes that end by themselves."""
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def meet(fate: str, ranks: list[ForkServerProcess], delay: float) -> list[int | None]:
    """Let two processes of a job meet their fate; their exit codes. delay: seconds until a fate's second part."""
    first, second = ranks
    (first if fate.startswith("the first") else second).kill()
    if fate.startswith("both"):
        first.kill()
    elif "Lightning" in fate:
        time.sleep(delay)
        first.kill()
    elif "stop" in fate:
        second.terminate()
    return ended(ranks)
