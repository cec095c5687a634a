"""Baselines and reports as a user starts them: measured folders in, one page out, one line for what is wrong."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from lightning_modules.launch.program import list_inputs
from tests.harness.command_line import refuse, succeed
from tests.lightning_modules.sga.small_refinement import crop_of_photograph


def photos(folder: Path) -> Path:
    """Two small pictures."""
    folder.mkdir()
    for k, name in enumerate(("a.png", "b.png")):
        crop = crop_of_photograph(60 + 40 * k, 150, 64, 96)
        Image.fromarray((crop[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / name)
    return folder


def test_a_folder_without_results_is_one_line_that_names_it_and_the_remedy(tmp_path: Path) -> None:
    line = refuse("task=report", f"input={tmp_path}", f"output={tmp_path / 'out'}")
    assert line == (
        f"error: {tmp_path}: holds no results.csv; give the folder of a run of task=test, of a sweep, or of "
        "task=baselines"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["task=report", "input=a,b"], ["task=report", "input=[a,b]"]),
        (["task=report", "input=[a,b]"], ["task=report", "input=[a,b]"]),
        (["task=report", "input='a,b'"], ["task=report", "input='a,b'"]),
        (["task=report", "-m", "input=a,b"], ["task=report", "-m", "input=a,b"]),
        (["task=compress", "input=a,b"], ["task=compress", "input=a,b"]),
    ],
)
def test_commas_between_the_folders_of_a_report_are_no_sweep(
    words: list[str], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    list_inputs()
    assert sys.argv[1:] == read


@pytest.mark.slow
def test_a_sweep_and_baselines_become_a_report_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("bjontegaard", reason="BD-rate needs the extra: pip install -e .[metrics]")
    pictures, measured, classical = photos(tmp_path / "photos"), tmp_path / "logs", tmp_path / "classical"
    succeed(
        *("-m", "task=test", "experiment=hyperprior", "ckpt=demo", "lmbda=0.001,0.0025,0.005", "logger=none"),
        *("datamodule=image_folder", f"datamodule.test={pictures}", f"paths.log_dir={measured}"),
    )
    slow = [f"~task.baselines.codecs.{name}" for name in ("avif", "avif_444", "jpeg_xl", "jpeg_xl_lossless")]
    output = succeed("task=baselines", f"input={pictures}", f"output={classical}", *slow)
    assert f"table: {classical / 'jpeg_420' / 'results.csv'}" in output
    pages = []
    for name in ("one", "two"):
        succeed("task=report", f"input={measured},{classical}", f"output={tmp_path / name}", "task.report.resamples=20")
        pages.append({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")})
    assert pages[0] == pages[1]
    document = json.loads(pages[0]["results.json"])
    curves = {curve["name"]: curve for curve in document["curves"]}
    assert {"hyperprior", "JPEG", "JPEG 4:4:4", "JPEG 2000", "WebP", "PNG", "WebP lossless"} <= curves.keys()
    assert [point["label"] for point in curves["hyperprior"]["points"]] == [
        f"lmbda {x}" for x in (0.001, 0.0025, 0.005)
    ]
    (ceiling,) = curves["colour round trip"]["points"]
    assert ceiling["means"]["psnr"] >= 52.0
    for run_of in document["runs"].values():
        assert "run.py" in run_of["provenance"]["command"]
    (job,) = {point["run"] for point in curves["hyperprior"]["points"] if point["label"] == "lmbda 0.005"}
    assert 5.0 < document["runs"][job]["complexity"]["decoder_kmac_per_pixel"] < 50.0
    with (Path(job) / "results.csv").open(newline="") as file:
        written = {row["name"]: float(row["bpp"]) for row in csv.DictReader(file)}
    rows = csv.DictReader(pages[0]["results.csv"].decode().splitlines())
    assert {row["name"]: float(row["bpp"]) for row in rows if row["run"] == job} == pytest.approx(written)
