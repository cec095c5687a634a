"""Row 26: CPU time of a lossless compress by relative entropy coding that keeps what it frees, over glibc's default.

Whole commands by turns, since what a process has allocated before decides when glibc hands memory back.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.__main__ import REPOSITORY
from benchmarks.contenders import pictures
from benchmarks.measurement import Measurement, Pair, Settings, relative_time
from benchmarks.rows.large_pictures import mosaic

NUMBER = 26
WIDTH, HEIGHT = 256, 192
MOST_ROUNDS = 5
"""Of two commands of some 30 s."""
AS_GLIBC_HAS_IT = {"GLIBC_TUNABLES": ""}
"""A setting of the user's, if an empty one, which run.py lets stand."""


def measure(settings: Settings) -> list[Measurement]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mosaic(pictures(settings), WIDTH, HEIGHT, folder / "pictures" / "input.png")
        pairs = [
            Pair(cpu_seconds(folder, f"{k}_kept", {}), cpu_seconds(folder, f"{k}_default", AS_GLIBC_HAS_IT))
            for k in range(min(settings.rounds, MOST_ROUNDS))
        ]
    what = f"compress experiment=rec_lossless_small, {WIDTH}x{HEIGHT}, freed memory kept over glibc's default"
    return [relative_time(NUMBER, what, pairs, None)]


def cpu_seconds(folder: Path, name: str, environment: dict[str, str]) -> float:
    """Return the CPU seconds of one command, the kernel's work for it included."""
    how = ("task=compress", "experiment=rec_lossless_small", "ckpt=demo", f"paths.log_dir={folder}")
    command = [sys.executable, "run.py", *how, f"input={folder / 'pictures'}", f"output={folder / name}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
