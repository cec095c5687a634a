"""What a sweep leaves: a table in the terminal, the same as CSV, a picture; nothing for sweeps that measure nothing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from lightning_modules.errors import CodingError
from lightning_modules.reports.sweep_summary import summarize
from tests.harness.small_sweep import picture, write_job


def printed(sweep: Path) -> str:
    text = io.StringIO()
    summarize(sweep, Console(file=text))
    return text.getvalue()


def test_a_table_a_csv_and_a_picture_tell_of_every_job_that_measures(tmp_path: Path) -> None:
    write_job(tmp_path, 0, ["inference=sga"], [picture("a.png")], task="test")
    write_job(tmp_path, 1, ["inference=a_method_with_a_name_that_is_rather_long"], [picture("a.png")], task="fit")
    write_job(tmp_path, 2, ["inference=map"], task="test", error="line " * 60)
    lines = printed(tmp_path).splitlines()
    assert [line.split()[0] for line in lines if "30.000" in line] == [
        "sga",
        "a_method_with_a_name_that_is_rather_long",
    ]
    table = (tmp_path / "summary.csv").read_text().splitlines()
    assert len(table) == 4
    assert table[3].endswith("line " * 60), "in one line"
    assert Image.open(tmp_path / "summary.png").size[0] >= 640
    assert lines[-1].endswith("summary.png")


def test_a_sweep_of_folder_jobs_has_no_summary(tmp_path: Path) -> None:
    write_job(tmp_path, 0, ["input=a"], task="compress")
    assert printed(tmp_path) == ""
    assert not list(tmp_path.glob("summary.*"))


def test_a_summary_that_cannot_be_written_is_one_line_after_the_table(tmp_path: Path) -> None:
    write_job(tmp_path, 0, ["lmbda=0.01"], [picture("a.png")])
    (tmp_path / "summary.csv").mkdir()
    with pytest.raises(CodingError, match=r"summary\.csv: cannot be written: a file|a folder"):
        summarize(tmp_path, Console(file=io.StringIO()))


def test_no_terminal_is_so_narrow_that_a_number_or_a_name_is_cut(tmp_path: Path) -> None:
    for number, name in enumerate(("amortized", "sga_cosine3")):
        write_job(tmp_path, number, [f"inference={name}"], [picture("a.png", bpp=0.125)])
    for width in (20, 60, 200):
        text = io.StringIO()
        summarize(tmp_path, Console(file=text, width=width, force_terminal=True))
        (line,) = [line for line in text.getvalue().splitlines() if "sga_cosine3" in line]
        assert line.split()[:5] == ["sga_cosine3", "1", "0", "0.1250", "30.000"]
