"""The table of a comparison: PSNR at the same bytes, picture by picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from rich import box
from rich.table import Table
from rich.text import Text

from lightning_modules.classical.measuring import Measured, Version, printable
from lightning_modules.classical.pillow_codecs import ClassicalCodec, MissingCodec

# ---- the table


def comparison_table(
    rows: Sequence[Measured], codecs: Sequence[ClassicalCodec], missing: Sequence[MissingCodec] = ()
) -> Table:
    """Return one line per picture, their means, and how far ours is above each codec; settings below."""
    table = Table(box=box.SIMPLE_HEAD, caption=_notes(rows, codecs, missing), caption_justify="left")
    table.title = "PSNR in dB at the same number of bytes"
    table.add_column("picture", overflow="fold")
    for name in ("bytes", "bpp", "ours", *(codec.name for codec in codecs)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [_decibel(row.ours), *(_decibel(row.classical[codec.name]) for codec in codecs)]
        table.add_row(Text(printable(row.name)), f"{row.ours.num_bytes:,}", f"{row.bpp:.3f}", *cells)
    table.add_section()
    mean_bytes, mean_bpp = fmean(row.ours.num_bytes for row in rows), fmean(row.bpp for row in rows)
    pairs = {codec.name: _pairs(rows, codec.name) for codec in codecs}
    means = [_mean(theirs for _, theirs in pairs[codec.name]) for codec in codecs]
    means = [_mean(row.ours.psnr for row in rows), *means]
    table.add_row("mean", f"{mean_bytes:,.0f}", f"{mean_bpp:.3f}", *means, style="bold")
    gains = [_mean((_gain(*pair) for pair in pairs[codec.name]), "+.2f") for codec in codecs]
    table.add_row("ours above it", "", "", "", *gains)
    return table


def _pairs(rows: Sequence[Measured], codec: str) -> list[tuple[float, float]]:
    """(our PSNR, the codec's) of the pictures it can code."""
    versions = ((row.ours.psnr, row.classical[codec]) for row in rows)
    return [(ours, version.psnr) for ours, version in versions if version is not None]


def _mean(values: Iterable[float], layout: str = ".2f") -> str:
    numbers = list(values)
    return format(sum(numbers) / len(numbers), layout) if numbers else "-"


def _gain(ours: float, theirs: float) -> float:
    """In dB; zero between two perfect copies, whose PSNR is infinite."""
    return 0.0 if ours == theirs else ours - theirs


def _decibel(version: Version | None) -> str:
    return "-" if version is None else f"{version.psnr:.2f}{'' if version.fits else '*'}"


def _notes(rows: Sequence[Measured], codecs: Sequence[ClassicalCodec], missing: Sequence[MissingCodec]) -> Text:
    versions = [version for row in rows for version in row.classical.values()]
    lines = [f"{codec.name}: {codec.settings}{_use(rows, codec.name)}" for codec in codecs]
    lines += [f"{codec.name} is left out: {codec.reason}" for codec in missing]
    if any(version is not None and not version.fits for version in versions):
        lines.append("* its lowest quality, and still more bytes than ours")
    if any(version is None for version in versions):
        lines.append("- cannot code this picture, which its mean leaves out")
    return Text("\n".join(lines), style="not italic dim")


def _use(rows: Sequence[Measured], codec: str) -> str:
    """How many of the allowed bytes a codec took: quality knobs have steps."""
    shares = [v.num_bytes / row.ours.num_bytes for row in rows if (v := row.classical[codec]) is not None]
    return f"; {fmean(shares):.1%} of our bytes" if shares else ""
