"""Row 8: a folder compressed and decompressed over CompressAI's codec called file by file (wall clock).

CompressAI codes one file per call of its program; ours is one job with two single-threaded processes, theirs
has two threads. The second line gives CompressAI one process for the whole folder: it starts up once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from benchmarks.contenders import Picture, contenders, pictures
from benchmarks.measurement import Goal, Measurement, Pair, Settings, seconds, speed_up

NUMBER = 8
REPOSITORY = Path(__file__).resolve().parents[2]
ROUNDS_PER_TURN = 15
"""A turn takes minutes, so this row takes fewer of them than the others."""


def measure(settings: Settings) -> list[Measurement]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_pictures(pictures(settings), folder / "input")
        twin = folder / "twin.pt"
        torch.save(contenders(settings.ckpt).theirs.state_dict(), twin)
        rounds = [
            _round(settings.ckpt, twin, files, folder / f"round{k}")
            for k in range(max(1, settings.rounds // ROUNDS_PER_TURN))
        ]
    per_file, at_once = ([Pair(times[0], times[k]) for times in rounds] for k in (1, 2))
    what = f"{len(files)} files to .lpc and back, 2 cores"
    return [
        speed_up(NUMBER, f"{what}, over CompressAI's per-file codec", per_file, Goal(">=", 2.0)),
        speed_up(NUMBER, f"{what}, over CompressAI in one process", at_once, None),
    ]


def write_pictures(chosen: list[Picture], folder: Path) -> list[Path]:
    """PNG files of the pictures."""
    folder.mkdir()
    paths = [(folder / picture.name).with_suffix(".png") for picture in chosen]
    for path, picture in zip(paths, chosen, strict=True):
        Image.fromarray(picture.x[0].permute(1, 2, 0).mul(255.0).round().byte().numpy()).save(path)
    return paths


def _round(ckpt: str, twin: Path, files: list[Path], output: Path) -> tuple[float, float, float]:
    """Seconds of our job, of CompressAI file by file, and of CompressAI on all files in one process."""

    def file_by_file() -> None:
        for path in files:
            _theirs(twin, [path], output / "per_file")

    return (
        seconds(partial(_ours, ckpt, files[0].parent, output / "ours"), time.perf_counter),
        seconds(file_by_file, time.perf_counter),
        seconds(partial(_theirs, twin, files, output / "at_once"), time.perf_counter),
    )


def _ours(ckpt: str, pictures_folder: Path, output: Path) -> None:
    model, workers = f"ckpt={ckpt}", "trainer=ddp_cpu"
    compressed, decoded = output / "compressed", output / "decoded"
    _run(1, "run.py", "task=compress", model, workers, f"input={pictures_folder}", f"output={compressed}")
    _run(1, "run.py", "task=decompress", model, workers, f"input={compressed}", f"output={decoded}")


def _theirs(twin: Path, files: list[Path], output: Path) -> None:
    codec = ("-m", "benchmarks.compressai_codec")
    compressed = [output / f"{path.name}.bin" for path in files]
    _run(2, *codec, "encode", str(twin), str(output), *map(str, files))
    _run(2, *codec, "decode", str(twin), str(output), *map(str, compressed))


def _run(threads: int, *arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last_lines = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RuntimeError(f"{' '.join(arguments[:2])} exits {done.returncode}: {' '.join(last_lines)}")
