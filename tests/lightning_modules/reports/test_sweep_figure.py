"""The figure of a sweep: the studied setting along x, one curve for each way of doing it, an envelope of rates."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from lightning_modules.reports.chart import PANEL_SIZE
from lightning_modules.reports.sweep_figure import (
    curves,
    distance_panel,
    envelope,
    loss_panel,
    rate_distortion_panel,
    studied_setting,
    summary_figure,
)
from lightning_modules.reports.sweep_results import outcomes
from lightning_modules.reports.sweep_table import Row, rows
from tests.harness.small_sweep import picture, write_job, write_trace


def sweep_of(folder: Path, *settings: tuple[str, list[str]], refined: bool = True) -> list[Row]:
    """All combinations; the more of each numeric setting, the fewer bits and the better."""
    keys = [key for key, _ in settings]
    for number, values in enumerate(product(*(values for _, values in settings))):
        gain = sum(float(value) for value in values if value[0].isdigit())
        overrides = [f"{key}={value}" for key, value in zip(keys, values, strict=True)]
        job = write_job(folder, number, overrides, [picture("a.png", 0.5 - 0.01 * gain, 30.0 + gain)])
        if refined:
            write_trace(job, "a.png", 0.5, 30.0)
    return rows(outcomes(folder))


def test_the_numeric_setting_with_the_most_values_is_studied_and_the_others_make_curves(tmp_path: Path) -> None:
    table = sweep_of(
        tmp_path, ("inference.lr", ["2", "1", "3"]), ("inference", ["sga", "sga_ssl"]), ("seed", ["1", "2"])
    )
    assert studied_setting(table) == "inference.lr"
    found = curves(table, "inference.lr")
    assert [curve.label for curve in found] == ["sga, seed=1", "sga, seed=2", "sga_ssl, seed=1", "sga_ssl, seed=2"]
    assert [row.settings["inference.lr"] for row in found[0].rows] == ["1", "2", "3"]


def test_the_loss_is_drawn_in_percent_against_the_studied_setting(tmp_path: Path) -> None:
    table = sweep_of(tmp_path, ("inference.lr", ["1", "2"]), ("inference", ["sga", "sga_ssl"]))
    panel = loss_panel(curves(table, "inference.lr"), "inference.lr")
    assert (panel.x_label, panel.y_label) == ("inference.lr", "loss in % of the best amortised one")
    assert [series.label for series in panel.series] == ["sga", "sga_ssl"]
    percent = [row.loss_percent for row in table if row.settings["inference"] == "sga"]
    assert panel.series[0].points == list(zip([1.0, 2.0], percent, strict=True))


def test_the_loss_of_a_sweep_that_refines_nothing_is_drawn_as_it_is(tmp_path: Path) -> None:
    table = sweep_of(tmp_path, ("seed", ["1", "2"]), refined=False)
    panel = loss_panel(curves(table, "seed"), "seed")
    assert panel.y_label == "loss = lmbda * mse + bpp"
    assert [y for _, y in panel.series[0].points] == [row.outcome.means.loss for row in table]


def test_methods_alone_are_points_with_their_names(tmp_path: Path) -> None:
    table = sweep_of(tmp_path, ("inference", ["map", "sga"]))
    assert studied_setting(table) is None
    panel = rate_distortion_panel(curves(table, None), None)
    assert [(series.label, list(series.names)) for series in panel.series] == [("", ["map"]), ("", ["sga"])]
    assert panel.series[0].points == [(table[0].outcome.means.bpp, table[0].outcome.means.psnr)]
    assert panel.backdrop is None


def test_curves_along_the_rate_have_an_envelope(tmp_path: Path) -> None:
    table = sweep_of(tmp_path, ("lmbda", ["1", "2"]), ("inference.lmbda", ["1", "2", "3"]))
    panel = rate_distortion_panel(curves(table, "inference.lmbda"), "inference.lmbda")
    assert [series.label for series in panel.series] == ["lmbda=1", "lmbda=2"]
    assert list(panel.series[0].names) == ["1", "2", "3"]
    assert panel.backdrop is not None
    assert panel.backdrop.points == envelope([point for series in panel.series for point in series.points])


@pytest.mark.parametrize(
    ("points", "best"),
    [
        ([(0.3, 31.0), (0.1, 28.0), (0.2, 27.0), (0.3, 30.0), (0.4, 31.0)], [(0.1, 28.0), (0.3, 31.0)]),
        ([(0.1, 28.0), (0.2, 28.5), (0.3, 31.0), (0.4, 31.5)], [(0.1, 28.0), (0.3, 31.0), (0.4, 31.5)]),
        ([(0.1, 28.0), (0.1, 29.0)], [(0.1, 29.0)]),
        ([], []),
    ],
)
def test_the_envelope_leaves_out_what_another_point_or_a_mixture_of_two_surpasses(
    points: list[tuple[float, float]], best: list[tuple[float, float]]
) -> None:
    assert envelope(points) == best


def test_of_many_points_the_ends_of_curves_are_named(tmp_path: Path) -> None:
    table = sweep_of(tmp_path, ("seed", [str(k) for k in range(50)]), refined=False)
    panel = rate_distortion_panel(curves(table, "seed"), "seed")
    assert [name for name in panel.series[0].names if name] == ["0", "49"]


@pytest.mark.parametrize(("values", "panels"), [(["map", "sga"], 1), (["1", "2"], 2)])
def test_a_picture_has_a_panel_for_the_loss_where_a_setting_is_numeric(
    values: list[str], panels: int, tmp_path: Path
) -> None:
    from io import BytesIO

    from PIL import Image

    png = summary_figure(sweep_of(tmp_path, ("inference", values)))
    assert png is not None
    width, height = Image.open(BytesIO(png)).size
    assert round(width / height / (640 / 460)) == panels


def test_where_nothing_was_measured_there_is_no_picture(tmp_path: Path) -> None:
    write_job(tmp_path, 0, ["lmbda=0.01"], error="no such checkpoint")
    assert summary_figure(rows(outcomes(tmp_path))) is None


def test_a_distance_has_a_panel_of_its_own_and_further_rates_have_none(tmp_path: Path) -> None:
    for number, lmbda in enumerate(("0.01", "0.02")):
        further = {"dists": 0.1 * number, "bpp_net": 0.3, "bpp_bound": 0.2, "pictures_in_file": 8}
        write_job(tmp_path, number, [f"lmbda={lmbda}"], [{**picture("a.png"), "accounts": further}])
    table = rows(outcomes(tmp_path))
    panel = distance_panel(curves(table, "lmbda"), "lmbda", "dists")
    assert [y for series in panel.series for _, y in series.points] == [0.0, 0.1]
    png = summary_figure(table)
    assert png is not None
    with Image.open(io.BytesIO(png)) as image:
        assert image.width == 3 * PANEL_SIZE[0]  # quality, dists, loss
