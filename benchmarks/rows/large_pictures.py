"""Row 23: time and peak memory of one picture through run.py, from 1 to 100 megapixels.

Time is that of coding, as the report has it (start-up, reading and quality metrics are left out); memory is the
whole process's. The pictures are mosaics of the benchmark's, with sides in the ratio 4 to 3.
"""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
import tempfile
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from benchmarks.contenders import Picture, pictures
from benchmarks.measurement import Goal, Measurement, Settings, quartiles

NUMBER = 23
REPOSITORY = Path(__file__).resolve().parents[2]
WIDTHS = (1152, 2304, 5760, 12000)
"""1, 4, 25 and 108 megapixels."""

ANY_GROWTH = Goal("<=", 1.1)
MEMORY = Goal("<=", 6.0)


class Trip(NamedTuple):
    """One picture to its file and back. seconds: encoding and decoding. peaks: GiB of the two processes."""

    megapixels: float
    seconds: float
    peaks: tuple[float, float]


def measure(settings: Settings) -> list[Measurement]:
    with tempfile.TemporaryDirectory() as name:
        trips = [trip(settings, width, Path(name, str(width))) for width in WIDTHS]
    return lines(trips)


def lines(trips: list[Trip]) -> list[Measurement]:
    """Return lines from the smallest picture's trip to the largest one's."""
    first, last = trips[0], trips[-1]
    costs = [trip.seconds / trip.megapixels for trip in trips]
    span = f"{last.megapixels:.0f} over {first.megapixels:.0f} megapixels"
    texts = f"{costs[-1]:.2f} s/MP", f"{costs[0]:.2f} s/MP"
    growth = [cost / costs[0] for cost in costs]
    time = Measurement(NUMBER, f"coding time per pixel, {span}", growth[-1], quartiles(growth[1:]), *texts, ANY_GROWTH)
    return [time, *(_memory(what, k, first, last) for k, what in enumerate(("compress", "decompress")))]


def _memory(what: str, k: int, first: Trip, last: Trip) -> Measurement:
    large, small = last.peaks[k], first.peaks[k]
    texts = f"{large:.2f} GiB", f"{small:.2f} GiB"
    title = f"{what}, peak memory at {last.megapixels:.0f} megapixels, beside {first.megapixels:.0f}"
    return Measurement(NUMBER, title, large, (large, large), *texts, MEMORY, unit=" GiB")


def trip(settings: Settings, width: int, folder: Path) -> Trip:
    """Send a mosaic of width x 3/4 width pixels through run.py; what it made is left in `folder`."""
    compressed, decoded = folder / "compressed", folder / "decoded"
    height = width * 3 // 4
    mosaic(pictures(settings), width, height, folder / "input.png")
    model, logs = ("experiment=demo", f"ckpt={settings.ckpt}"), f"paths.log_dir={folder}"
    peaks = (
        _run("task=compress", *model, f"input={folder / 'input.png'}", f"output={compressed}", logs),
        _run("task=decompress", f"input={compressed}", f"output={decoded}", logs),
    )
    with (compressed / "report.csv").open() as report:
        (row,) = csv.DictReader(report)
    return Trip(width * height / 1e6, float(row["encode_seconds"]) + float(row["decode_seconds"]), peaks)


def mosaic(chosen: list[Picture], width: int, height: int, path: Path) -> None:
    """Return a PNG of the pictures side by side, cut at its borders."""
    path.parent.mkdir(parents=True)
    images = [Image.fromarray(p.x[0].permute(1, 2, 0).mul(255.0).round().byte().numpy()) for p in chosen]
    cell_width, cell_height = (max(image.size[axis] for image in images) for axis in (0, 1))
    columns, rows = math.ceil(width / cell_width), math.ceil(height / cell_height)
    canvas = Image.new("RGB", (width, height))
    for place, image in zip(range(columns * rows), cycle(images), strict=False):
        fitted = image if image.size == (cell_width, cell_height) else image.resize((cell_width, cell_height))
        canvas.paste(fitted, (place % columns * cell_width, place // columns * cell_height))
    canvas.save(path, compress_level=1)


def _run(*overrides: str) -> float:
    """Peak memory in GiB of one command."""
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "run.py", *overrides, "logger=none"]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        said = log.read()[-300:].decode(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{overrides[0]} exits {process.returncode}: {said}")
    return usage.ru_maxrss / 2**20
