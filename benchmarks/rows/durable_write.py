"""Row 24: a picture coded and written as a folder job does, over the same written plainly, wall clock.

What it costs more is waiting for the disk to say that it has the data; how long that takes is the disk's doing.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.contenders import contenders, pictures
from benchmarks.measurement import Goal, Measurement, Pair, Settings, interleave, relative_time, seconds
from lightning_modules.coding.picture import pack
from lightning_modules.records import PixelFormat
from lightning_modules.system.atomic_file import write_whole

NUMBER = 24


@torch.no_grad()
def measure(settings: Settings) -> list[Measurement]:
    """Both sides of a round get the same encode: its time differs more from round to round than the writes do."""
    codec, x = contenders(settings.ckpt).ours, pictures(settings)[0].x
    data = pack(codec, codec.analyze(x), PixelFormat()).data
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:  # a disk: the usual place may be memory
        paths = (Path(name, f"{k}.lpc") for k in itertools.count())  # as in a job, no file replaces another
        writes = interleave(
            lambda: write_whole(next(paths), data),
            lambda: next(paths).write_bytes(data),
            rounds=settings.rounds,
            clock=time.perf_counter,
        )
    encodes = [
        seconds(lambda: pack(codec, codec.analyze(x), PixelFormat()), time.perf_counter) for _ in range(settings.rounds)
    ]
    pairs = [Pair(encode + write.ours, encode + write.theirs) for encode, write in zip(encodes, writes, strict=True)]
    what = "encode and durable write over encode and plain write"
    return [relative_time(NUMBER, what, pairs, Goal("<=", 1.005))]
