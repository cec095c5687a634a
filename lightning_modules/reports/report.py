"""The report of runs, sweeps, baselines and published curves: a page, a figure, and the same as data.

Nothing is measured here and no time is taken: the same folders give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_modules.errors import CodingError
from lightning_modules.reports.chart import draw
from lightning_modules.reports.data_files import as_json, published_files, results_csv, results_json
from lightning_modules.reports.evaluation import Evaluation, evaluate
from lightning_modules.reports.measured_curves import read_material
from lightning_modules.reports.page import page
from lightning_modules.reports.rate_panels import panels, without_names
from lightning_modules.system.atomic_file import describe_fault, write_atomically

PUBLISHED_FOLDER = "compressai"


class Report:
    """anchor: name of the curve that others are compared with. methods: of interpolation, the first also by picture.

    resamples, seed: of the pictures, for the intervals of BD-rate. max_bpp: of the charts; None for twice the highest
    rate of what is no baseline.
    """

    def __init__(
        self,
        anchor: str | None,
        methods: Sequence[str],
        resamples: int,
        seed: int,
        max_bpp: float | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        if not methods:
            raise CodingError("methods=[]: there is nothing to compare curves by; give akima, cubic or pchip")
        self.anchor = anchor
        self.methods = list(methods)
        self.resamples = resamples
        self.seed = seed
        self.max_bpp = max_bpp
        self.say = say

    def run(self, inputs: Sequence[Path], output: Path) -> Evaluation:
        """Raises `CodingError` where an input has no results, and when `output` cannot be written."""
        material = read_material(inputs)
        evaluation = evaluate(material, self.anchor, self.methods, self.resamples, self.seed, self.max_bpp)
        for name, content in files(evaluation).items():
            _write(output / name, content)
        if evaluation.anchor is not None:
            self.say(f"anchor: {evaluation.anchor.name}")
        for one in evaluation.deltas:
            self.say(f"{one.curve}: {one.sentence()}")
        self.say(f"report: {output / 'report.html'}")
        return evaluation


def files(evaluation: Evaluation) -> dict[str, bytes]:
    """Return the files of the report by their names below the output folder."""
    figure = panels(evaluation.lossy, evaluation.measures, evaluation.max_bpp)
    published = {
        f"{PUBLISHED_FOLDER}/{_file_name(name)}.json": as_json(document)
        for name, document in published_files(evaluation).items()
    }
    return {
        "report.html": page(evaluation, figure).encode("utf-8", "replace"),
        "rd.png": draw(without_names(figure)),
        "results.json": as_json(results_json(evaluation)),
        "results.csv": results_csv(evaluation).encode("utf-8", "surrogateescape"),
        **published,
    }


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", name).strip("_.") or "curve"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise CodingError(f"{path}: cannot be written: {describe_fault(error)}") from None
