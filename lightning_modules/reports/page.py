"""The report as one HTML file: style, script and curves inside, nothing fetched, readable on a telephone.

What is shown is gathered here, as headings, notes, tables and folds; how it is shown is the template's, `page.html`.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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


class Heading(NamedTuple):
    """level: 2 or 3."""

    text: str
    level: int = 2


class Note(NamedTuple):
    """A line of small print; nothing where `text` is empty."""

    text: str


class Table(NamedTuple):
    """head: the titles, of the kind of their columns."""

    head: list[Cell]
    rows: list[list[Cell]]


class Fold(NamedTuple):
    """What is shown when its summary is opened. command: a line of code above the table; None: none."""

    summary: str
    table: Table
    command: str | None = None


Block = Heading | Note | Table | Fold


def page(evaluation: Evaluation, panels: Sequence[Panel]) -> str:
    """Return the page as text. panels: of the lossy curves, in the order of the evaluation."""
    templates = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    sections = [_differences, _picture_differences, _points, _lossless, _ceilings, _pictures, _runs]
    blocks = [block for section in sections for block in section(evaluation) if block != Note("")]
    names = {name for curve in evaluation.curves for point in curve.points for name in point.pictures}
    beyond = sum(point.bpp > evaluation.max_bpp for curve in evaluation.lossy for point in curve.points)
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return templates.get_template("page.html").render(
        title=TITLE,
        style=style,
        script=script,
        num_curves=len(evaluation.curves),
        num_pictures=len(names),
        curves=[curve.name for curve in evaluation.lossy],
        num_colours=COLOURS,
        panels=[(panel.title, svg(panel)) for panel in panels] if evaluation.lossy else [],
        beyond=f"{beyond} points above {evaluation.max_bpp:.2f} bpp are in the tables only." if beyond else "",
        blocks=[(type(block).__name__, block) for block in blocks],
    )


def _differences(evaluation: Evaluation) -> list[Block]:
    if evaluation.anchor is None or not evaluation.deltas:
        return []
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
    return [Heading(f"Differences from {evaluation.anchor.name}"), _table(head, rows), Note(note)]


def _picture_differences(evaluation: Evaluation) -> list[Block]:
    if evaluation.anchor is None or not evaluation.pictures:
        return []
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
    return [Heading("Picture by picture"), _table(["picture", *by_name], body), Note(note)]


def _points(evaluation: Evaluation) -> list[Block]:
    shown = evaluation.measures
    titles = [f"{one.title} {one.unit}".strip() for one in shown]
    head = ["point", "bpp", "bpp estimated", *titles, "s to encode", "s to decode", "kMAC/px enc.", "kMAC/px dec."]
    blocks: list[Block] = [Heading("Points")] if evaluation.lossy else []
    for curve in evaluation.lossy:
        rows = []
        for point in curve.points:
            qualities = [one.text(point.quality(one.column)).removesuffix(one.unit).strip() for one in shown]
            rates = [_number(point.bpp, ".4f"), _number(point.quality("bpp_estimated"), ".4f")]
            rows.append([*map(Cell, [_with_failures(point), *rates, *qualities, *_costs(evaluation, point)])])
        blocks += [Heading(curve.name, level=3), Note(curve.settings), _table(head, rows)]
    note = (
        "Seconds are a picture's, wall clock, on the machine named below. kMAC/px: thousands of multiplications and "
        "additions of the networks for a pixel, one pass, as executed; an integer network runs in two halves."
    )
    return [*blocks, Note(note)] if blocks else []


def _costs(evaluation: Evaluation, point: Point) -> list[str]:
    run = evaluation.runs.get(point.run)
    complexity = {} if run is None else run.complexity
    counts = [complexity.get(f"{side}_kmac_per_pixel", math.nan) for side in ("encoder", "decoder")]
    seconds = [point.quality(f"{side}_seconds") for side in ("encode", "decode")]
    return [*(_number(value, ".3g") for value in seconds), *(_number(value, ".4g") for value in counts)]


def _lossless(evaluation: Evaluation) -> list[Block]:
    rows = []
    for curve in evaluation.lossless:
        (point, *_) = curve.points
        sizes = [_number(point.bpp, ".3f"), _number(point.quality("bytes"), ",.0f")]
        cells = [curve.name, *sizes, *_costs(evaluation, point)[:2]]
        rows.append([*map(Cell, cells), Cell(curve.settings, "text")])
    head = ["codec", "bpp", "bytes", "s to encode", "s to decode", "settings"]
    return [Heading("Without loss"), _table(head, rows)] if rows else []


def _ceilings(evaluation: Evaluation) -> list[Block]:
    rows = []
    for curve in evaluation.ceilings:
        (point, *_) = curve.points
        qualities = [one.text(point.quality(one.column)) for one in evaluation.measures]
        rows.append([*map(Cell, [curve.name, *qualities]), Cell(curve.settings, "text")])
    head = ["what", *(one.title for one in evaluation.measures), "settings"]
    note = "What no codec surpasses that is given pictures so converted."
    return [Heading("Ceilings"), _table(head, rows), Note(note)] if rows else []


def _pictures(evaluation: Evaluation) -> list[Block]:
    """Return bpp and PSNR of each picture at each point, one table a curve, folded."""
    folds = [_curve_pictures(curve) for curve in evaluation.lossy if curve.points[0].pictures]
    note = "bpp / PSNR in dB; marked where either is far from the other pictures' (Tukey)."
    return [Heading("Pictures"), Note(note), *folds] if folds else []


def _curve_pictures(curve: RateCurve) -> Fold:
    names = list(dict.fromkeys(name for point in curve.points for name in (*point.pictures, *point.failed)))
    columns = [_picture_column(point, names) for point in curve.points]
    rows = [[Cell(name), *cells] for name, cells in zip(names, zip(*columns, strict=True), strict=True)]
    head = ["picture", *(point.label for point in curve.points)]
    return Fold(curve.name, _table(head, rows))


def _picture_column(point: Point, names: Sequence[str]) -> list[Cell]:
    numbers = [[point.pictures.get(name, {}).get(column, math.nan) for name in names] for column in ("bpp", "psnr")]
    far = [any(marks) for marks in zip(*map(outliers, numbers), strict=True)]
    cells = []
    for name, bpp, psnr, is_far in zip(names, *numbers, far, strict=True):
        text = "failed" if name in point.failed else f"{_number(bpp, '.3f')} / {_number(psnr, '.2f')}"
        cells.append(Cell(text, "outlier" if is_far else ""))
    return cells


def _runs(evaluation: Evaluation) -> list[Block]:
    """Return how each number was made."""
    folds = [_run(name, run) for name, run in evaluation.runs.items() if run.provenance]
    plain = [name for name, run in evaluation.runs.items() if not run.provenance]
    notes = [Note(f"Without provenance: {', '.join(plain)}")] if plain else []
    notes += [Note(f"Left out: {name}: {why}") for name, why in evaluation.left_out.items()]
    return [Heading("Runs"), *folds, *notes] if folds or notes else []


def _run(name: str, run: RunFolder) -> Fold:
    facts = {key: value for key, value in run.provenance.items() if key != "command"}
    table = _table(["fact", "what"], [[Cell(key), Cell(text, "text")] for key, text in facts.items()])
    return Fold(name, table, _command(run.provenance.get("command", "")))


def _command(text: str) -> str:
    """Return the command as one would type it: programs by their names, without this machine's folders."""
    try:
        words = shlex.split(text)
    except ValueError:
        return text
    return shlex.join([*(Path(word).name for word in words[:2]), *words[2:]]) if words else "command not kept"


def _with_failures(point: Point) -> str:
    return f"{point.label} ({len(point.failed)} failed)" if point.failed else point.label


def _table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """Return a table without the columns in which nothing is known."""
    lines = list(rows)
    known = [k for k in range(len(head)) if any(line[k].text not in ("-", "") for line in lines)]
    titles = [Cell(head[k], lines[0][k].kind.replace("outlier", "")) for k in known]
    return Table(titles, [[line[k] for k in known] for line in lines])


def _number(value: float, layout: str) -> str:
    if math.isnan(value):
        return "-"
    return format(value, layout) if math.isfinite(value) else "no error"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.1f}"
