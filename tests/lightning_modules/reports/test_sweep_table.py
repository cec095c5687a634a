"""The table of a sweep: a row per job, named by what differs, with losses that compare."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from lightning_modules.reports.sweep_results import outcomes
from lightning_modules.reports.sweep_table import Row, job_name, notes, rows, summary_csv, summary_table
from tests.harness.small_sweep import LMBDA, MSE_AT_30_DB, picture, write_job, write_trace

TEST = ["task=test", "ckpt=demo"]


def table_of(sweep: Path) -> list[Row]:
    return rows(outcomes(sweep))


def test_a_row_is_named_by_the_overrides_that_differ(tmp_path: Path) -> None:
    for number, (inference, upper) in enumerate([("sga", "0.5"), ("sga_ssl", "0.5"), ("sga_ssl", "1.0")]):
        write_job(tmp_path, number, [*TEST, f"inference={inference}", f"inference.method.schedule.upper={upper}"])
    table = table_of(tmp_path)
    assert [list(row.settings) for row in table] == [["inference", "schedule.upper"]] * 3
    assert job_name(table[2]) == "inference=sga_ssl, schedule.upper=1.0"


def test_a_sweep_of_one_job_is_named_by_its_folder(tmp_path: Path) -> None:
    write_job(tmp_path, 0, TEST, [picture("a.png")])
    (row,) = table_of(tmp_path)
    assert job_name(row) == "0_job"
    assert summary_table([row]).columns[0].header == "job"


def test_a_loss_is_in_percent_of_the_encoders_own_on_the_same_pictures(tmp_path: Path) -> None:
    write_job(tmp_path, 0, ["inference=amortized"], [picture("a.png", bpp=0.6)])
    refined = write_job(tmp_path, 1, ["inference=sga"], [picture("a.png", bpp=0.5)])
    write_trace(refined, "a.png", 0.59, 30.0)  # by the estimate, as the amortised job's
    other = write_job(tmp_path, 2, ["inference=sga_ssl"], [picture("b.png", bpp=0.3)])
    write_trace(other, "b.png", 0.4, 30.0)
    distortion = LMBDA * MSE_AT_30_DB
    expected = [1.0, (distortion + 0.49) / (distortion + 0.59), (distortion + 0.29) / (distortion + 0.4)]
    assert [row.loss_percent for row in table_of(tmp_path)] == pytest.approx([100 * e for e in expected], abs=1e-3)


def test_of_several_models_the_best_encoder_at_the_same_lmbda_is_the_measure(tmp_path: Path) -> None:
    for number, (model, bpp, lmbda) in enumerate([("near", 0.5, 0.01), ("far", 0.8, 0.01), ("far", 0.8, 0.04)]):
        job = write_job(
            tmp_path, number, [f"ckpt={model}", f"inference.lmbda={lmbda}"], [picture("a.png", bpp, 30.0, lmbda)]
        )
        write_trace(job, "a.png", bpp, 30.0)
    near, far, alone = (row.loss_percent for row in table_of(tmp_path))
    assert near is not None
    assert far is not None
    assert near < 100 < far
    assert alone == pytest.approx(100 * (0.04 * MSE_AT_30_DB + 0.79) / (0.04 * MSE_AT_30_DB + 0.8), abs=1e-3)


def test_where_nothing_is_refined_there_is_no_percentage(tmp_path: Path) -> None:
    for number in range(2):
        write_job(tmp_path, number, [f"lmbda=0.0{number + 1}"], [picture("a.png")])
    table = table_of(tmp_path)
    assert [row.loss_percent for row in table] == [None, None]
    assert "% of\namortised" not in [column.header for column in summary_table(table).columns]


def test_a_job_that_failed_is_a_row_that_says_so_and_the_csv_says_why(tmp_path: Path) -> None:
    write_job(tmp_path, 0, ["inference=sga"], [picture("a.png")])
    write_job(tmp_path, 1, ["inference=map"], error="no memory")
    table = table_of(tmp_path)
    assert summary_csv(table).splitlines()[2].endswith(",no memory")
    assert [list(column.cells)[1] for column in summary_table(table).columns][1:] == ["failed", *["-"] * 6]


def test_losses_of_different_lmbdas_are_said_not_to_compare(tmp_path: Path) -> None:
    write_job(tmp_path, 0, ["lmbda=0.01"], [picture("a.png", lmbda=0.01)])
    assert "compare" not in notes(table_of(tmp_path))
    write_job(tmp_path, 1, ["lmbda=0.02"], [picture("a.png", lmbda=0.02)])
    assert "compare at equal lmbda only" in notes(table_of(tmp_path))


def test_the_csv_has_all_of_it_in_full_precision(tmp_path: Path) -> None:
    write_job(tmp_path, 0, ["lmbda=0.01"], [picture("a.png", bpp=0.1234567)])
    write_job(tmp_path, 1, ["lmbda=x,y"], error='bad, "very" bad')
    good, bad = csv.DictReader(io.StringIO(summary_csv(table_of(tmp_path))))
    assert (good["job"], good["lmbda"], good["pictures"], good["failed"]) == ("0_job", "0.01", "1", "0")
    assert float(good["bpp"]) == pytest.approx(0.123457)
    assert float(good["loss"]) == pytest.approx(LMBDA * MSE_AT_30_DB + 0.123457, abs=2e-6)
    assert (good["loss_lmbda"], good["error"]) == ("0.01", "")
    assert (bad["lmbda"], bad["psnr"], bad["error"]) == ("x,y", "", 'bad, "very" bad')


def test_further_columns_come_last_and_are_means_without_those_of_standard_errors(tmp_path: Path) -> None:
    further = {"lpips_alex": 0.2, "bpp_net": 0.4, "bpp_net_error": 0.01}
    pictures = [{**picture("a.png"), "accounts": further}, {**picture("b.png"), "accounts": {"lpips_alex": 0.4}}]
    write_job(tmp_path, 0, ["lmbda=0.01"], pictures)
    write_job(tmp_path, 1, ["lmbda=0.02"], [picture("a.png")])
    table = rows(outcomes(tmp_path))
    first, second = csv.DictReader(io.StringIO(summary_csv(table)))
    assert list(first)[-2:] == ["lpips_alex", "bpp_net"]
    assert (float(first["lpips_alex"]), float(first["bpp_net"])) == pytest.approx((0.3, 0.4))
    assert second["lpips_alex"] == ""
    shown = {column.header: [*column.cells] for column in summary_table(table).columns}
    assert shown["lpips_alex"] == ["0.3000", "-"]
    assert "bpp_net" not in shown


def test_lossless_files_are_measured_in_bits_per_dimension_against_their_bound(tmp_path: Path) -> None:
    for number, (coder, pack, initial) in enumerate([("irec", 50, 0.0), ("bits_back", None, 3.0)]):
        accounts: dict[str, float] = {"bpp_bound": 9.0, **({"bpp_initial": initial} if initial else {})}
        accounts |= {} if pack is None else {"pictures_in_file": pack}
        one = {**picture("a.png", bpp=9.9), "psnr": "inf", "encode_seconds": 0.5, "decode_seconds": 0.25}
        write_job(tmp_path, number, [f"coder={coder}"], [{**one, "accounts": accounts}])
    table = table_of(tmp_path)
    first, second = csv.DictReader(io.StringIO(summary_csv(table)))
    names = ("bits_per_dimension", "bound_per_dimension", "overhead_percent", "initial_per_dimension")
    assert [float(first[name]) for name in names] == pytest.approx([3.3, 3.0, 10.0, 0.0])
    assert [float(second[name]) for name in names] == pytest.approx([3.3, 3.0, 10.0, 1.0])
    shown = {column.header: list(column.cells) for column in summary_table(table).columns}
    assert shown["bits per\ndimension"] == ["3.3000", "3.3000"]
    assert shown["over\nbound, %"] == ["10.00", "10.00"]
    assert shown["initial\nbits"] == ["0.0000", "1.0000"]
    assert shown["pictures\nin a file"] == ["50", "-"]
    assert (shown["s to\nencode"], shown["s to\ndecode"]) == (["0.500", "0.500"], ["0.250", "0.250"])


def test_lossy_files_have_an_overhead_and_no_bits_per_dimension(tmp_path: Path) -> None:
    write_job(tmp_path, 0, ["coder=irec"], [{**picture("a.png", bpp=0.2), "accounts": {"bpp_bound": 0.16}}])
    headers = [column.header for column in summary_table(table_of(tmp_path)).columns]
    assert "over\nbound, %" in headers
    assert "ELBO" not in headers
