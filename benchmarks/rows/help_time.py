"""Row 22: seconds until `python run.py --help` is done, beside a bare `import hydra`, wall clock."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measurement import Goal, Measurement, Settings, duration, interleave, quartiles

NUMBER = 22
REPOSITORY = Path(__file__).resolve().parents[2]


def measure(settings: Settings) -> list[Measurement]:
    pairs = interleave(
        lambda: run("run.py", "--help"),
        lambda: run("-c", "import hydra"),
        rounds=settings.rounds,
        clock=time.perf_counter,
    )
    ours, theirs = (list(side) for side in zip(*pairs, strict=True))
    value = statistics.median(ours)
    texts = duration(value), duration(statistics.median(theirs))
    what = "run.py --help, beside `import hydra`"
    return [Measurement(NUMBER, what, value, quartiles(ours), *texts, Goal("<=", 2.0), unit=" s")]


def run(*arguments: str) -> None:
    """Run a fresh interpreter in the repository."""
    done = subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, check=False)
    if done.returncode:
        last_line = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"{' '.join(arguments)} exits {done.returncode}: {''.join(last_line)}")
