"""The axis of a dashboard counts steps of the codec, also where a second optimizer takes turns with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.command_line import succeed
from tests.harness.wandb_records import read_run


@pytest.mark.slow
def test_a_training_with_two_optimizers_is_logged_on_the_axis_of_the_codecs_steps(tmp_path: Path) -> None:
    settings = ("debug=tiny", "perceptual=edges", "logger=wandb", f"hydra.run.dir={tmp_path}")
    succeed("experiment=sic_gan_small", *settings)
    run = read_run(tmp_path)
    assert [step for step, _ in run.course("train/loss")] == list(range(12))
    assert [step for step, _ in run.course("train/discriminator")] == list(range(12))
    assert max(step for step, _ in run.course("rates/y1")) == 12
    assert run.goals["val/loss"] == ("trainer/global_step", "min")
    assert [kind for kind, files in run.artifacts.values() if "card.md" in files] == ["model"]
    assert run.job_type == "fit"
