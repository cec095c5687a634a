"""Differences from an anchor: over the pictures that both have, with an interval, and picture by picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_modules.errors import CodingError
from lightning_modules.reports.deltas import choose_anchor, curve_delta, picture_deltas
from lightning_modules.reports.measured_curves import read_material
from lightning_modules.reports.rate_curve import RateCurve
from tests.harness.small_sweep import picture, write_job
from tests.lightning_modules.reports.small_results import LADDER, NAMES, write_baseline, write_ladder

pytest.importorskip("bjontegaard", reason="BD-rate needs the extra: pip install -e .[metrics]")


def two_curves(folder: Path, factor: float = 0.9, names: list[str] = NAMES) -> tuple[RateCurve, RateCurve]:
    """The ladder, and one of `factor` times its rates."""
    write_ladder(folder / "a", ["experiment=base"])
    write_ladder(folder / "b", ["experiment=better"], factor=factor, names=names)
    one, other = read_material([folder]).curves
    return one, other


@pytest.mark.parametrize("method", ["akima", "cubic", "pchip"])
def test_the_same_saving_of_every_picture_is_that_of_the_mean_without_doubt(tmp_path: Path, method: str) -> None:
    anchor, test = two_curves(tmp_path)
    found = curve_delta(anchor, test, method, resamples=50, seed=0)
    assert found.delta is not None
    assert found.limits is not None
    assert found.delta.rate == pytest.approx(-10.0, abs=1e-3)
    assert found.limits == pytest.approx((-10.0, -10.0), abs=1e-3)
    assert (found.pictures, found.note) == (6, "")


def test_savings_that_differ_make_an_interval_around_the_mean(tmp_path: Path) -> None:
    write_ladder(tmp_path / "a", ["experiment=base"])
    for number, (lmbda, (bpp, psnr)) in enumerate(LADDER.items()):
        rows = [picture(name, (0.8 + 0.04 * k) * bpp, psnr, lmbda) for k, name in enumerate(NAMES)]
        write_job(tmp_path / "b", number, ["experiment=better", f"lmbda={lmbda}"], rows)
    anchor, test = read_material([tmp_path]).curves
    found = curve_delta(anchor, test, "akima", resamples=200, seed=0)
    assert found.delta is not None
    assert found.limits is not None
    assert found.limits[0] < found.delta.rate < found.limits[1]
    assert found.limits[1] - found.limits[0] > 2.0


def test_only_pictures_that_both_curves_have_are_compared_and_the_rest_is_counted(tmp_path: Path) -> None:
    anchor, test = two_curves(tmp_path, names=NAMES[:4])
    found = curve_delta(anchor, test, "akima", resamples=20, seed=0)
    assert found.pictures == 4
    assert found.note == "2 pictures left out: not all points have them"
    assert found.delta is not None
    assert found.delta.rate == pytest.approx(-10.0, abs=1e-3)


def test_curves_of_other_pictures_are_not_compared(tmp_path: Path) -> None:
    anchor, test = two_curves(tmp_path, names=["x.png", "y.png"])
    found = curve_delta(anchor, test, "akima", resamples=20, seed=0)
    assert (found.delta, found.limits, found.note) == (None, None, "measured on other pictures")
    assert "no BD-rate (akima): measured on other pictures" in found.sentence()


def test_a_published_curve_is_compared_by_its_means_and_without_an_interval(tmp_path: Path) -> None:
    write_ladder(tmp_path / "a", ["experiment=base"])
    rates, qualities = zip(*LADDER.values(), strict=True)
    document = {"name": "p", "results": {"bpp": [rate / 2 for rate in rates], "psnr": list(qualities)}}
    (tmp_path / "p.json").write_text(json.dumps(document))
    anchor, test = read_material([tmp_path / "a", tmp_path / "p.json"]).curves
    found = curve_delta(anchor, test, "cubic", resamples=20, seed=0)
    assert found.delta is not None
    assert found.delta.rate == pytest.approx(-50.0, abs=1e-3)
    assert found.limits is None
    assert "not known" in found.note


def test_picture_by_picture_the_one_that_is_unlike_the_others_is_marked(tmp_path: Path) -> None:
    write_ladder(tmp_path / "a", ["experiment=base"])
    write_ladder(tmp_path / "b", ["experiment=better"], factor=0.9)
    for results in (tmp_path / "b").glob("*/results.csv"):
        lines = results.read_text().splitlines()
        cells = lines[3].split(",")
        place = lines[0].split(",").index("bpp")
        cells[place] = str(float(cells[place]) * 1.5)
        results.write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]) + "\n")
    anchor, test = read_material([tmp_path]).curves
    rows = picture_deltas(anchor, test, "akima")
    assert [row.name for row in rows] == NAMES
    assert [row.rate for row in rows] == pytest.approx([-10.0, -10.0, 35.0, -10.0, -10.0, -10.0], abs=0.01)
    assert [row.is_outlier for row in rows] == [False, False, True, False, False, False]


def test_the_anchor_is_the_named_curve_or_the_lossy_one_with_the_most_points(tmp_path: Path) -> None:
    write_ladder(tmp_path / "a", ["experiment=base"])
    write_baseline(tmp_path / "j", "JPEG", [(str(k), 0.1 * k, str(20 + k)) for k in range(1, 7)])
    curves = read_material([tmp_path]).curves
    assert choose_anchor(curves, None).name == "JPEG"
    assert choose_anchor(curves, "base").name == "base"
    with pytest.raises(CodingError, match=r"anchor=jpg: no curve of this name; the lossy ones are 'base', 'JPEG'"):
        choose_anchor(curves, "jpg")
