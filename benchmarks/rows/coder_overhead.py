"""Row 4: bytes of our stream over -log2 p under its own integer tables."""

from __future__ import annotations

from benchmarks.contenders import contenders, latents_of
from benchmarks.measurement import Goal, Measurement, Pair, Settings, quartiles

NUMBER = 4
ALLOWANCE = 16.0
"""Bytes a stream may cost whatever it holds: the coder's state, and filling up a word."""


def measure(settings: Settings) -> list[Measurement]:
    codec = contenders(settings.ckpt).ours
    pairs = []
    for latents in latents_of(settings):
        coded = codec.encode(latents)
        num_bytes = sum(len(section.payload) for section in coded.sections)
        pairs.append(Pair(num_bytes, sum(coded.bits.values()) / 8))
    ratios = [(pair.ours - ALLOWANCE) / pair.theirs for pair in pairs]
    ours, ideal = (sum(side) for side in zip(*pairs, strict=True))
    what = "coder overhead over its own tables, 16 B off, worst picture"
    return [
        Measurement(
            NUMBER,
            what,
            max(ratios),
            quartiles(ratios),
            f"{ours:,.0f} B",
            f"{ideal:,.1f} B",
            Goal("<=", 1.0005),
        )
    ]
