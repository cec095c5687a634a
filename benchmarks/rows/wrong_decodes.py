"""Row 1: pictures that decode wrong when only the environment of the decoder changes, ours and CompressAI's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compressai_decoding import encode
from benchmarks.contenders import contenders, pictures
from benchmarks.measurement import Goal, Measurement, Settings
from lightning_modules.checkpoints.packaged_model import save_model
from lightning_modules.doctor.environments import Environment, environments
from lightning_modules.doctor.self_test import SelfTest

NUMBER = 1

REPOSITORY = Path(__file__).resolve().parents[2]


def measure(settings: Settings) -> list[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        return measure_in(Path(folder), settings, environments())


def measure_in(folder: Path, settings: Settings, chosen: Sequence[Environment]) -> list[Measurement]:
    """Return a line for each environment, and last the sum over all of them."""
    ours, theirs = contenders(settings.ckpt)
    photos = [picture.x for picture in pictures(settings)]
    save_model(ours, folder / "model.safetensors")
    self_test = SelfTest(
        [folder / "model.safetensors"], [(x[0] * 255).round().byte() for x in photos], folder / "ours", shown=0
    )
    with environments()[0].entered():
        encode(theirs, photos, folder)
    lines = []
    for environment in chosen:
        result = self_test.result(environment)
        if result.fault is not None:
            raise RuntimeError(f"{environment.name}: {result.fault}")
        lines.append(_line(environment.name, result.wrong, _theirs(environment, folder, settings.ckpt), len(photos)))
    return [*lines, _line("in all environments", *_totals(lines), len(photos) * len(lines))]


def _theirs(environment: Environment, folder: Path, ckpt: str) -> int:
    """CompressAI's decoder may end by an error of memory, where it reads beyond its buffer."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compressai_decoding", str(environments().index(environment)), folder, ckpt],
        env={**os.environ, **environment.variables, "PYTHONWARNINGS": "ignore"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def _line(name: str, ours: int, theirs: int, total: int) -> Measurement:
    return Measurement(
        NUMBER,
        f"wrong pictures, {name}",
        ours,
        (ours, ours),
        f"{ours} of {total}",
        f"{theirs} of {total}",
        Goal("<=", 0),
    )


def _totals(lines: Sequence[Measurement]) -> tuple[int, int]:
    return sum(int(line.ours.split()[0]) for line in lines), sum(int(line.theirs.split()[0]) for line in lines)
