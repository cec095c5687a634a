"""Folders of results as runs, sweeps and baselines leave them, with known numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.harness.small_sweep import picture, write_job

NAMES = [f"kodim{k:02d}.png" for k in range(1, 7)]
LADDER = {0.001: (0.2, 28.0), 0.0025: (0.4, 30.0), 0.005: (0.8, 32.5), 0.01: (1.2, 34.0)}
"""lmbda -> mean (bits per pixel, PSNR)."""


def spread(number: int) -> tuple[float, float]:
    """Factor on the rate and summand to the PSNR of a picture; over all six their means are 1 and 0."""
    step = (number - 2.5) / 2.5
    return 1.0 + 0.3 * step, -2.0 * step


def write_ladder(
    sweep: Path, overrides: Sequence[str] = (), *, factor: float = 1.0, names: Sequence[str] = NAMES, first: int = 0
) -> None:
    """A sweep over lambda whose rates are `factor` times those of the ladder."""
    for number, (lmbda, (bpp, psnr)) in enumerate(LADDER.items(), first):
        rows = []
        for k, name in enumerate(names):
            share, better = spread(k)
            rows.append(picture(name, factor * share * bpp, psnr + better, lmbda))
        folder = write_job(sweep, number, ["task=test", f"lmbda={lmbda}", *overrides], rows)
        (folder / "complexity.json").write_text(json.dumps({"encoder_kmac_per_pixel": 14.5}))
        (folder / "provenance").mkdir()
        (folder / "provenance" / "command.txt").write_text(
            f"/some/where/python3 /some/where/run.py lmbda={lmbda} 'x=<a b>'"
        )


def write_baseline(
    folder: Path, codec: str, rungs: Sequence[tuple[str, float, str]], names: Sequence[str] = NAMES
) -> None:
    """rungs: (setting, bits per pixel, PSNR as text) of every picture."""
    folder.mkdir(parents=True)
    lines = ["name,status,bpp,psnr,ms_ssim,encode_seconds,decode_seconds,error,codec,setting,settings,lpips_alex"]
    for k, name in enumerate(names):
        for setting, bpp, psnr in rungs:
            share, better = spread(k)
            quality = psnr if psnr == "inf" else str(float(psnr) + better)
            rate = share * bpp if bpp else ""
            lines.append(f'{name},ok,{rate},{quality},0.99,0.5,0.25,,{codec},{setting},"version 1, fast",0.125')
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
