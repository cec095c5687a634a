"""The report as one HTML file: style, script and curves inside, nothing fetched, readable on a telephone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from lightning_modules.reports.bjontegaard_delta import COVERAGE, outliers
from lightning_modules.reports.chart import Panel
from lightning_modules.reports.evaluation import Evaluation
from lightning_modules.reports.rate_curve import Point, RateCurve
from lightning_modules.reports.run_folder import RunFolder
from lightning_modules.reports.svg_chart import COLOURS, svg

HERE = Path(__file__).parent
TITLE = "latentpress: rate and quality"


class Cell(NamedTuple):
    """kind: a class of the style; empty for a number."""

    text: str
    kind: str = ""


def page(evaluation: Evaluation, panels: Sequence[Panel]) -> str:
    """panels: of the lossy curves, in the order of the evaluation."""
    parts = [
        _head(evaluation),
        _charts(evaluation, panels) if evaluation.lossy else "",
        _differences(evaluation),
        _picture_differences(evaluation),
        _points(evaluation),
        _lossless(evaluation),
        _ceilings(evaluation),
        _pictures(evaluation),
        _runs(evaluation),
    ]
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(TITLE)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n'
        + "\n".join(part for part in parts if part)
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _head(evaluation: Evaluation) -> str:
    names = {name for curve in evaluation.curves for point in curve.points for name in point.pictures}
    counts = f"{len(evaluation.curves)} curves, {len(names)} pictures"
    return (
        f"<h1>{escape(TITLE)}</h1>\n<p>{counts}. Rates are lengths of whole files, quality is of the decoded 8-bit "
        "pixels; numbers are means over pictures, each with equal weight.</p>"
    )


def _charts(evaluation: Evaluation, panels: Sequence[Panel]) -> str:
    buttons = "".join(
        f'<button class="c{k % COLOURS}{" dashed" if k // COLOURS % 2 else ""}" data-curve="{k}" aria-pressed="true">'
        f"{escape(curve.name)}</button>"
        for k, curve in enumerate(evaluation.lossy)
    )
    figures = "\n".join(
        f'<figure><h3>{escape(panel.title)}</h3>{svg(panel)}<div class="tip" hidden></div></figure>' for panel in panels
    )
    beyond = sum(point.bpp > evaluation.max_bpp for curve in evaluation.lossy for point in curve.points)
    note = f"{beyond} points above {evaluation.max_bpp:.2f} bpp are in the tables only." if beyond else ""
    return f'<div class="legend">{buttons}</div>\n<div class="charts">\n{figures}\n</div>\n{_note(note)}'


def _differences(evaluation: Evaluation) -> str:
    if evaluation.anchor is None or not evaluation.deltas:
        return ""
    head = ["curve", "method", "BD-rate %", f"{COVERAGE:.0%} interval", "BD-PSNR dB", "overlap", "pictures", "note"]
    rows = []
    for one in evaluation.deltas:
        limits = "-" if one.limits is None else f"{one.limits[0]:+.2f} to {one.limits[1]:+.2f}"
        rate, quality, overlap = "-", "-", "-"
        if one.delta is not None:
            rate, quality, overlap = f"{one.delta.rate:+.2f}", f"{one.delta.quality:+.3f}", f"{one.delta.overlap:.0%}"
        cells = [one.curve, one.method, rate, limits, quality, overlap, str(one.pictures or "-")]
        rows.append([*map(Cell, cells), Cell(one.note, "text")])
    note = (
        "BD-rate: mean difference of log rate at equal PSNR, negative for fewer bits; BD-PSNR: of PSNR at equal log "
        "rate. Overlap: the common part of both ranges of PSNR over both together; of little of it, believe little. "
        f"Intervals: {evaluation.resamples} resamples of the pictures."
    )
    anchor = f"Differences from {escape(evaluation.anchor.name)}"
    return f"<h2>{anchor}</h2>\n{_table(head, rows)}\n{_note(note)}"


def _picture_differences(evaluation: Evaluation) -> str:
    if evaluation.anchor is None or not evaluation.pictures:
        return ""
    by_name = {curve: {row.name: row for row in rows} for curve, rows in evaluation.pictures.items()}
    names = dict.fromkeys(name for rows in by_name.values() for name in rows)
    body = []
    for name in names:
        found = [rows.get(name) for rows in by_name.values()]
        marked = [(math.nan, False) if row is None else (row.rate, row.is_outlier) for row in found]
        body.append([Cell(name), *(Cell(_signed(rate), "outlier" if far else "") for rate, far in marked)])
    note = (
        f"BD-rate in percent ({evaluation.methods[0]}) against {evaluation.anchor.name}. Marked: farther from the "
        "middle half of the column than one and a half times its width (Tukey)."
    )
    return f"<h2>Picture by picture</h2>\n{_table(['picture', *by_name], body)}\n{_note(note)}"


def _points(evaluation: Evaluation) -> str:
    shown = evaluation.measures
    titles = [f"{one.title} {one.unit}".strip() for one in shown]
    head = ["point", "bpp", "bpp estimated", *titles, "s to encode", "s to decode", "kMAC/px enc.", "kMAC/px dec."]
    parts = ["<h2>Points</h2>"] if evaluation.lossy else []
    for curve in evaluation.lossy:
        rows = []
        for point in curve.points:
            qualities = [one.text(point.quality(one.column)).removesuffix(one.unit).strip() for one in shown]
            rates = [_number(point.bpp, ".4f"), _number(point.quality("bpp_estimated"), ".4f")]
            rows.append([*map(Cell, [_with_failures(point), *rates, *qualities, *_costs(evaluation, point)])])
        parts.append(f"<h3>{escape(curve.name)}</h3>\n{_note(curve.settings)}\n{_table(head, rows)}")
    note = (
        "Seconds are a picture's, wall clock, on the machine named below. kMAC/px: thousands of multiplications and "
        "additions of the networks for a pixel, one pass, as executed; an integer network runs in two halves."
    )
    return "\n".join([*parts, _note(note)]) if parts else ""


def _costs(evaluation: Evaluation, point: Point) -> list[str]:
    run = evaluation.runs.get(point.run)
    complexity = {} if run is None else run.complexity
    counts = [complexity.get(f"{side}_kmac_per_pixel", math.nan) for side in ("encoder", "decoder")]
    seconds = [point.quality(f"{side}_seconds") for side in ("encode", "decode")]
    return [*(_number(value, ".3g") for value in seconds), *(_number(value, ".4g") for value in counts)]


def _lossless(evaluation: Evaluation) -> str:
    rows = []
    for curve in evaluation.lossless:
        (point, *_) = curve.points
        sizes = [_number(point.bpp, ".3f"), _number(point.quality("bytes"), ",.0f")]
        cells = [curve.name, *sizes, *_costs(evaluation, point)[:2]]
        rows.append([*map(Cell, cells), Cell(curve.settings, "text")])
    head = ["codec", "bpp", "bytes", "s to encode", "s to decode", "settings"]
    return f"<h2>Without loss</h2>\n{_table(head, rows)}" if rows else ""


def _ceilings(evaluation: Evaluation) -> str:
    rows = []
    for curve in evaluation.ceilings:
        (point, *_) = curve.points
        qualities = [one.text(point.quality(one.column)) for one in evaluation.measures]
        rows.append([*map(Cell, [curve.name, *qualities]), Cell(curve.settings, "text")])
    head = ["what", *(one.title for one in evaluation.measures), "settings"]
    note = "What no codec surpasses that is given pictures so converted."
    return f"<h2>Ceilings</h2>\n{_table(head, rows)}\n{_note(note)}" if rows else ""


def _pictures(evaluation: Evaluation) -> str:
    """bpp and PSNR of each picture at each point, one table a curve, folded."""
    parts = [_curve_pictures(curve) for curve in evaluation.lossy if curve.points[0].pictures]
    note = "bpp / PSNR in dB; marked where either is far from the other pictures' (Tukey)."
    return "\n".join(["<h2>Pictures</h2>", _note(note), *parts]) if parts else ""


def _curve_pictures(curve: RateCurve) -> str:
    names = list(dict.fromkeys(name for point in curve.points for name in (*point.pictures, *point.failed)))
    columns = [_picture_column(point, names) for point in curve.points]
    rows = [[Cell(name), *cells] for name, cells in zip(names, zip(*columns, strict=True), strict=True)]
    head = ["picture", *(point.label for point in curve.points)]
    return f"<details><summary>{escape(curve.name)}</summary>\n{_table(head, rows)}\n</details>"


def _picture_column(point: Point, names: Sequence[str]) -> list[Cell]:
    numbers = [[point.pictures.get(name, {}).get(column, math.nan) for name in names] for column in ("bpp", "psnr")]
    far = [any(marks) for marks in zip(*map(outliers, numbers), strict=True)]
    cells = []
    for name, bpp, psnr, is_far in zip(names, *numbers, far, strict=True):
        text = "failed" if name in point.failed else f"{_number(bpp, '.3f')} / {_number(psnr, '.2f')}"
        cells.append(Cell(text, "outlier" if is_far else ""))
    return cells


def _runs(evaluation: Evaluation) -> str:
    """How each number was made."""
    parts = [_run(name, run) for name, run in evaluation.runs.items() if run.provenance]
    plain = [name for name, run in evaluation.runs.items() if not run.provenance]
    notes = [_note(f"Without provenance: {', '.join(plain)}")] if plain else []
    notes += [_note(f"Left out: {name}: {why}") for name, why in evaluation.left_out.items()]
    return "\n".join(["<h2>Runs</h2>", *parts, *notes]) if parts or notes else ""


def _run(name: str, run: RunFolder) -> str:
    facts = {key: value for key, value in run.provenance.items() if key != "command"}
    command = f"<p><code>{escape(_command(run.provenance.get('command', '')))}</code></p>"
    table = _table(["fact", "what"], [[Cell(key), Cell(text, "text")] for key, text in facts.items()])
    return f"<details><summary>{escape(name)}</summary>\n{command}\n{table}\n</details>"


def _command(text: str) -> str:
    """Return the command as one would type it: programs by their names, without this machine's folders."""
    try:
        words = shlex.split(text)
    except ValueError:
        return text
    return shlex.join([*(Path(word).name for word in words[:2]), *words[2:]]) if words else "command not kept"


def _with_failures(point: Point) -> str:
    return f"{point.label} ({len(point.failed)} failed)" if point.failed else point.label


def _table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Columns in which nothing is known are left out."""
    lines = list(rows)
    known = [k for k in range(len(head)) if any(line[k].text not in ("-", "") for line in lines)]
    titles = "".join(_cell(Cell(head[k], lines[0][k].kind.replace("outlier", "")), "th") for k in known)
    body = "\n".join("<tr>" + "".join(_cell(line[k]) for k in known) + "</tr>" for line in lines)
    return f'<div class="wide"><table>\n<tr>{titles}</tr>\n{body}\n</table></div>'


def _cell(cell: Cell, tag: str = "td") -> str:
    kind = f' class="{cell.kind}"' if cell.kind else ""
    return f"<{tag}{kind}>{escape(cell.text)}</{tag}>"


def _note(text: str) -> str:
    return f'<p class="faint">{escape(text)}</p>' if text else ""


def _number(value: float, layout: str) -> str:
    if math.isnan(value):
        return "-"
    return format(value, layout) if math.isfinite(value) else "no error"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.1f}"
