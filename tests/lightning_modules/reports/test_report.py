"""The whole report: four kinds of file, the same bytes twice, every number in each, one line for what is wrong."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lightning_modules.errors import CodingError
from lightning_modules.reports.chart import PANEL_SIZE
from lightning_modules.reports.report import Report
from tests.lightning_modules.reports.small_results import LADDER, NAMES, write_baseline, write_ladder

pytest.importorskip("bjontegaard", reason="BD-rate needs the extra: pip install -e .[metrics]")

JPEG = [("10", 0.4, "28"), ("30", 0.8, "30"), ("60", 1.6, "32.5"), ("75", 2.4, "34")]
"""Twice the rates of the ladder."""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_ladder(tmp_path / "in" / "sweep", ["experiment=hyperprior"])
    write_baseline(tmp_path / "in" / "jpeg", "JPEG", JPEG)
    write_baseline(tmp_path / "in" / "png", "PNG", [("0", 12.0, "inf")])
    write_baseline(tmp_path / "in" / "trip", "colour round trip", [("no codec", 0.0, "53")])
    return tmp_path / "in"


def report(inputs: Path, output: Path, **settings: Any) -> dict[str, bytes]:
    defaults: dict[str, Any] = {"anchor": "JPEG", "methods": ["akima", "cubic"], "resamples": 20, "seed": 0}
    Report(**(defaults | settings), say=lambda line: None).run([inputs], output)
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


class Tags(HTMLParser):
    """What a page refers to, and whether its elements are closed as they were opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_same_results_give_the_same_bytes_again(results: Path, tmp_path: Path) -> None:
    once = report(results, tmp_path / "one")
    assert sorted(once) == [
        "compressai/JPEG.json",
        "compressai/hyperprior.json",
        "rd.png",
        "report.html",
        "results.csv",
        "results.json",
    ]
    assert report(results, tmp_path / "one") == once
    assert report(results, tmp_path / "two") == once


def test_the_page_needs_nothing_from_outside_and_its_elements_are_closed(results: Path, tmp_path: Path) -> None:
    page = report(results, tmp_path / "out")["report.html"].decode()
    tags = Tags(page)
    assert tags.references == ["data:,"]
    assert tags.open == []
    assert "url(" not in page
    assert "@import" not in page


def test_the_page_has_every_part_with_its_numbers(results: Path, tmp_path: Path) -> None:
    page = report(results, tmp_path / "out")["report.html"].decode()
    for words in (
        "Differences from JPEG",
        "-50.00",
        "Picture by picture",
        "Without loss",
        "12.000",
        "Ceilings",
        "53.00 dB",
        "14.5",
        "version 1, fast",
        "lpips_alex and rate",
        "python3 run.py lmbda=0.001 &#39;x=&lt;a b&gt;&#39;",
    ):
        assert words in page, words
    assert "/some/where" not in page
    assert all(page.count(name) >= 2 for name in NAMES)


def test_the_figure_has_a_panel_for_each_measure(results: Path, tmp_path: Path) -> None:
    figure = Image.open(io.BytesIO(report(results, tmp_path / "out")["rd.png"]))
    assert figure.size == (3 * PANEL_SIZE[0], PANEL_SIZE[1])  # PSNR, MS-SSIM, LPIPS


def test_the_data_has_what_the_page_shows(results: Path, tmp_path: Path) -> None:
    document = json.loads(report(results, tmp_path / "out")["results.json"])
    (akima, cubic) = document["differences"]
    assert (akima["curve"], akima["method"], akima["pictures"], cubic["method"]) == ("hyperprior", "akima", 6, "cubic")
    assert document["bd_resamples"] == 20
    curves = {curve["name"]: curve for curve in document["curves"]}
    assert [point["means"]["bpp"] for point in curves["hyperprior"]["points"]] == pytest.approx(
        [bpp for bpp, _ in LADDER.values()]
    )
    assert curves["PNG"]["points"][0]["means"]["psnr"] is None, "strict JSON has no infinity"
    runs = {Path(name).name: run for name, run in document["runs"].items()}
    assert runs["0_job"]["complexity"] == {"encoder_kmac_per_pixel": 14.5}
    assert runs["0_job"]["overrides"]["experiment"] == "hyperprior"


def test_the_table_has_a_row_for_each_picture_at_each_point(results: Path, tmp_path: Path) -> None:
    content = report(results, tmp_path / "out")["results.csv"].decode()
    rows = list(csv.DictReader(io.StringIO(content)))
    assert len(rows) == len(NAMES) * (len(LADDER) + len(JPEG) + 2)
    (row,) = (r for r in rows if (r["curve"], r["point"], r["name"]) == ("JPEG", "setting 30", NAMES[0]))
    assert (float(row["bpp"]), float(row["psnr"])) == pytest.approx((0.8 * 0.7, 32.0))


def test_charts_end_at_twice_the_rates_of_what_is_no_baseline_or_where_told(results: Path, tmp_path: Path) -> None:
    write_baseline(results / "webp", "WebP", [("50", 1.0, "30"), ("90", 3.2, "37")])
    page = report(results, tmp_path / "one")["report.html"].decode()
    assert "90: 3.2000 bpp" not in page
    assert "1 points above 2.40 bpp are in the tables only" in page
    assert "90: 3.2000 bpp" in report(results, tmp_path / "two", max_bpp=9.0)["report.html"].decode()


def test_results_without_any_lossy_curve_are_a_table(tmp_path: Path) -> None:
    write_baseline(tmp_path / "png", "PNG", [("0", 12.0, "inf")])
    page = report(tmp_path / "png", tmp_path / "out", anchor=None)["report.html"].decode()
    assert "Without loss" in page
    assert "Differences" not in page


@pytest.mark.parametrize(
    ("settings", "fault"),
    [({"anchor": "x"}, "no curve of this name"), ({"methods": ["linear"]}, "linear"), ({"methods": []}, "methods=")],
)
def test_wrong_settings_are_one_line(results: Path, tmp_path: Path, settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(CodingError, match=fault):
        report(results, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_one_line(results: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CodingError, match=r"file.*report\.html: cannot be written: a file is in the way"):
        report(results, tmp_path / "file")
