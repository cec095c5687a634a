"""From folders to curves: runs that differ along the rate are one curve; failed jobs and strange folders are told."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lightning_modules.errors import CodingError
from lightning_modules.reports.measured_curves import identity, read_material
from lightning_modules.reports.run_folder import read_run
from tests.harness.small_sweep import picture, write_job
from tests.lightning_modules.reports.small_results import LADDER, NAMES, write_baseline, write_ladder


def test_the_jobs_of_a_sweep_over_lambda_are_one_curve_of_their_means(tmp_path: Path) -> None:
    write_ladder(tmp_path, ["experiment=hyperprior"])
    (curve,) = read_material([tmp_path]).curves
    assert curve.name == "hyperprior"
    assert [point.label for point in curve.points] == [f"lmbda {lmbda:g}" for lmbda in LADDER]
    means = [(point.bpp, point.quality("psnr")) for point in curve.points]
    assert means == [pytest.approx(point, abs=1e-6) for point in LADDER.values()]
    assert curve.common_pictures() == NAMES


def test_methods_of_a_sweep_are_curves_named_by_what_differs(tmp_path: Path) -> None:
    write_ladder(tmp_path, ["experiment=sga", "inference.steps=200", "seed=1"])
    write_ladder(tmp_path, ["experiment=sga_ssl", "inference.steps=500", "seed=1"], factor=0.9, first=4)
    names = [curve.name for curve in read_material([tmp_path]).curves]
    assert names == ["sga, inference.steps=200", "sga_ssl, inference.steps=500"]


def test_rungs_of_the_zoo_and_of_trained_ladders_are_one_curve_each(tmp_path: Path) -> None:
    for number, quality in enumerate((1, 2, 3)):
        row = picture("a.png", 0.1 * quality, 28.0 + quality, 0.01)
        write_job(tmp_path / "zoo", number, [f"ckpt=compressai:mbt2018-mean/{quality}"], [row])
        row = picture("a.png", 0.1 * quality, 29.0 + quality, 0.001 * quality)
        write_job(tmp_path / "ours", number, [f"ckpt=runs/{number}/codec.safetensors"], [row])
    zoo, ours = read_material([tmp_path / "zoo", tmp_path / "ours"]).curves
    assert [point.label for point in zoo.points] == ["quality 1", "quality 2", "quality 3"]
    assert [point.label for point in ours.points] == ["lmbda 0.001", "lmbda 0.002", "lmbda 0.003"]


def test_a_run_done_twice_is_two_curves_not_one_that_goes_back_and_forth(tmp_path: Path) -> None:
    write_ladder(tmp_path / "one", ["experiment=sga"])
    write_ladder(tmp_path / "two", ["experiment=sga"])
    assert [(curve.name, len(curve.points)) for curve in read_material([tmp_path]).curves] == [
        ("sga", 4),
        ("sga (2)", 4),
    ]


def test_settings_that_change_no_number_set_nothing_apart(tmp_path: Path) -> None:
    job = write_job(tmp_path, 0, ["task=test", "threads=4", "logger=csv", "paths.log_dir=x", "lmbda=1"], [picture("a")])
    assert identity(read_run(job)) == {}


def test_a_run_outside_sweeps_is_read_by_what_hydra_keeps(tmp_path: Path) -> None:
    job = write_job(tmp_path, 0, [], [picture("a.png")])
    (job / "job.json").unlink()
    (job / ".hydra").mkdir()
    (job / ".hydra" / "overrides.yaml").write_text("- task=test\n- experiment=bb_sga\n- lmbda=0.01\n")
    (curve,) = read_material([job]).curves
    assert (curve.name, curve.points[0].label) == ("bb_sga", "lmbda 0.01")


def test_jobs_that_failed_are_left_out_and_named_with_their_reason(tmp_path: Path) -> None:
    write_ladder(tmp_path, ["experiment=sga"])
    failed = write_job(tmp_path, 9, ["lmbda=0.5"], [picture("a.png")], error="out of memory")
    material = read_material([tmp_path])
    assert material.left_out == {str(failed): "out of memory"}
    assert [len(curve.points) for curve in material.curves] == [4]


def test_pictures_that_failed_are_in_no_mean_and_keep_their_reason(tmp_path: Path) -> None:
    rows = [picture("a.png", 0.5, 30.0), {"name": "b.png", "status": "failed", "error": "b.png: damaged"}]
    (curve,) = read_material([write_job(tmp_path, 0, [], rows)]).curves
    assert curve.points[0].bpp == 0.5
    assert curve.points[0].failed == {"b.png": "b.png: damaged"}


def test_baselines_are_a_curve_of_each_codec_by_rate_with_its_settings(tmp_path: Path) -> None:
    write_baseline(tmp_path / "jpeg", "JPEG", [("10", 0.3, "27"), ("50", 0.9, "32"), ("5", 0.1, "25")])
    write_baseline(tmp_path / "png", "PNG", [("0", 12.0, "inf")])
    write_baseline(tmp_path / "trip", "colour round trip", [("no codec", 0.0, "53")])
    jpeg, png, trip = read_material([tmp_path]).curves
    assert (jpeg.name, jpeg.settings) == ("JPEG", "version 1, fast")
    assert [point.label for point in jpeg.points] == ["setting 5", "setting 10", "setting 50"]
    assert jpeg.points[0].quality("lpips_alex") == 0.125
    assert [one.is_lossy for one in (jpeg, png, trip)] == [True, False, False]
    assert png.is_lossless
    assert trip.is_ceiling
    assert math.isnan(trip.points[0].bpp)


def test_a_picture_that_a_codec_cannot_take_is_missing_from_its_points_and_no_point_itself(tmp_path: Path) -> None:
    write_baseline(tmp_path / "vtm", "VTM", [("37", 0.3, "30"), ("27", 0.9, "34")])
    with (tmp_path / "vtm" / "results.csv").open("a") as file:
        file.write("odd.png,failed,,,,,,too small,VTM,,version 1,\n")
    (curve,) = read_material([tmp_path]).curves
    assert [(point.label, len(point.pictures), point.failed) for point in curve.points] == [
        ("setting 37", 6, {"odd.png": "too small"}),
        ("setting 27", 6, {"odd.png": "too small"}),
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "holds no results.csv; give the folder of a run"),
        ("", "not a table of results"),
        ("a,b\n1,2\n", "not a table of results"),
        ("name,status,bpp,psnr\na.png,ok,x,30\n", "the row of a.png is damaged"),
    ],
)
def test_a_folder_without_results_is_one_line_with_its_name(tmp_path: Path, content: str | None, fault: str) -> None:
    if content is not None:
        (tmp_path / "results.csv").write_text(content)
    with pytest.raises(CodingError, match=fault) as error:
        read_material([tmp_path])
    assert str(tmp_path) in str(error.value)
    with pytest.raises(CodingError, match="no such folder"):
        read_material([tmp_path / "missing"])


def test_a_sweep_of_which_every_job_failed_says_so_with_the_first_reason(tmp_path: Path) -> None:
    write_job(tmp_path, 0, [], [picture("a.png")], error="out of memory")
    with pytest.raises(CodingError, match=r"nothing in it was measured \(out of memory\); run it again"):
        read_material([tmp_path])


def test_a_run_whose_pictures_all_failed_is_left_out_and_is_no_ceiling(tmp_path: Path) -> None:
    write_ladder(tmp_path / "good", ["experiment=sga"])
    rows = [{"name": "a.png", "status": "failed", "error": "a.png: damaged"}]
    bad = write_job(tmp_path / "bad", 0, ["experiment=map"], rows)
    material = read_material([tmp_path])
    assert [curve.name for curve in material.curves] == ["sga"]
    assert material.left_out == {str(bad): "every picture failed, the first by: a.png: damaged"}
