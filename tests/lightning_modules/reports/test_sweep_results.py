"""What a job's folder tells of it: means over its pictures, what the encoder alone had said, why it failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_modules.reports.sweep_results import outcomes
from lightning_modules.sweeps.record import UNFINISHED, SweepJob
from tests.harness.small_sweep import LMBDA, MSE_AT_30_DB, picture, write_job, write_trace


def test_means_are_over_the_pictures_that_did_not_fail(tmp_path: Path) -> None:
    failed = {"name": "c.png", "status": "failed", "error": "c.png: is empty"}
    write_job(tmp_path, 0, ["lmbda=0.01"], [picture("a.png", 0.4, 30.0), picture("b.png", 0.6, 32.0), failed])
    (outcome,) = outcomes(tmp_path)
    assert (outcome.pictures, outcome.failed, outcome.lmbda) == (("a.png", "b.png"), 1, "0.01")
    means = outcome.means
    assert [means.bpp, means.psnr, means.seconds] == pytest.approx([0.5, 31.0, 4.0])
    assert means.ms_ssim is None
    mses = MSE_AT_30_DB, MSE_AT_30_DB / 10**0.2
    assert means.loss == pytest.approx(LMBDA * sum(mses) / 2 + 0.5, abs=1e-6)
    assert means.estimated_loss == pytest.approx(LMBDA * sum(mses) / 2 + 0.49, abs=1e-6)


def test_the_loss_of_the_encoders_own_latents_is_that_of_the_traces_first_steps(tmp_path: Path) -> None:
    refined = write_job(tmp_path, 0, [], [picture("sub/a.png")])
    write_trace(refined, "sub/a.png", 0.5, 30.0)
    write_job(tmp_path, 1, [], [picture("sub/a.png")])
    with_trace, without = outcomes(tmp_path)
    assert (with_trace.refined, without.refined) == (True, False)
    assert with_trace.means.amortized_loss == pytest.approx(LMBDA * MSE_AT_30_DB + 0.5, abs=1e-6)
    assert without.means.amortized_loss == without.means.estimated_loss


def test_a_picture_without_its_trace_leaves_that_loss_unknown(tmp_path: Path) -> None:
    job = write_job(tmp_path, 0, [], [picture("a.png"), picture("b.png")])
    write_trace(job, "a.png", 0.5, 30.0)
    (outcome,) = outcomes(tmp_path)
    assert outcome.means.amortized_loss is None


def test_a_job_that_failed_or_was_killed_has_measured_nothing_whatever_lies_in_its_folder(tmp_path: Path) -> None:
    write_job(tmp_path, 0, [], [picture("a.png")], error="no such checkpoint")
    SweepJob(1, "test", [], UNFINISHED).write(write_job(tmp_path, 1, [], [picture("a.png")]))
    assert [(outcome.job.error, outcome.means.psnr) for outcome in outcomes(tmp_path)] == [
        ("no such checkpoint", None),
        (UNFINISHED, None),
    ]


def test_jobs_come_by_number_and_other_folders_are_no_jobs(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        write_job(tmp_path, number, [f"+seed={number}"])
    (tmp_path / "pictures").mkdir()
    assert [outcome.overrides for outcome in outcomes(tmp_path)] == [{"seed": "2"}, {"seed": "9"}, {"seed": "10"}]


def test_a_codec_without_lmbda_has_no_loss(tmp_path: Path) -> None:
    row = picture("a.png")
    del row["lmbda"], row["loss"]
    write_job(tmp_path, 0, [], [row])
    (outcome,) = outcomes(tmp_path)
    assert outcome.means.psnr == 30.0
    assert outcome.means.loss is outcome.means.amortized_loss is None
