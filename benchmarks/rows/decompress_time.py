"""Row 7: a whole `.lpc` file to pixels, every check included, over CompressAI's `decompress`, CPU time."""

from __future__ import annotations

import torch

from benchmarks.contenders import contenders, pictures
from benchmarks.measurement import Goal, Measurement, Settings, interleave, relative_time
from lightning_modules.coding.picture import pack, unpack
from lightning_modules.records import PixelFormat

NUMBER = 7


@torch.no_grad()
def measure(settings: Settings) -> list[Measurement]:
    ours, theirs = contenders(settings.ckpt)
    x = pictures(settings)[0].x
    data = pack(ours, ours.analyze(x), PixelFormat()).data
    compressed = theirs.compress(x)
    shape = compressed["shape"]

    decompressing = interleave(
        lambda: unpack(data, ours),
        lambda: theirs.decompress(compressed["strings"], shape),
        rounds=settings.rounds,
    )
    compressing = interleave(
        lambda: pack(ours, ours.analyze(x), PixelFormat()), lambda: theirs.compress(x), rounds=settings.rounds
    )
    return [
        relative_time(NUMBER, "whole decompress over CompressAI's", decompressing, Goal("<=", 1.15)),
        relative_time(NUMBER, "whole compress over CompressAI's", compressing, None),
    ]
