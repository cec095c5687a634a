"""`python run.py` in a process of its own, as a user starts it, and what it leaves behind."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
COMPRESS = ("task=compress", "experiment=hyperprior", "logger=none")
DECOMPRESS = ("task=decompress", "logger=none")


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The running command, at the head of a process group of its own."""
    settings = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true", **environment}
    return subprocess.Popen(
        [sys.executable, "run.py", *arguments],
        cwd=REPOSITORY,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    process = start(*arguments, **environment)
    stdout, stderr = process.communicate(timeout=500)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def succeed(*arguments: str, **environment: str) -> str:
    """What the command prints; anything but exit code 0 is a failure."""
    done = run(*arguments, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def refuse(*arguments: str) -> str:
    """The one line that the command ends with; anything longer is a failure."""
    return refusal(run(*arguments))


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The same of a command that has ended."""
    assert done.returncode == 1, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Error executing job" not in done.stderr
    return lines[0]


def kill_after_an_epoch(*arguments: str, run_folder: Path) -> None:
    """A training of that run folder, killed when it has left something to resume from, and before it ends."""
    process = start(*arguments, f"hydra.run.dir={run_folder}")
    deadline = time.monotonic() + 300
    while not (run_folder / "checkpoints" / "last.ckpt").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (run_folder / "codec.safetensors").exists(), "it finished before it could be killed"


def report(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of a folder job's report by name."""
    with (folder / "report.csv").open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def second_rank(pid: int) -> int | None:
    """The process that Lightning started for rank 1 of the command with this process number."""
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "run.py"], capture_output=True, text=True, check=False)
    return int(found.stdout.split()[0]) if found.stdout.split() else None
