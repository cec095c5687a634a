"""The three phases as a user runs them, each from the one before, killed and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.harness.command_line import kill_after_an_epoch, refuse, succeed

TINY = ("debug=tiny", "logger=csv")


def test_missing_weights_of_the_perceptual_distance_are_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    own = ("perceptual=lpips_squeeze", "module.phase.distance=${perceptual}", f"paths.data_dir={tmp_path}")
    line = refuse("experiment=sic_warmup_small", *TINY, *own, f"hydra.run.dir={tmp_path}")
    assert line.endswith("no such file; name one with weights=, or let weights=null fetch the published one")


@pytest.mark.slow
def test_each_phase_goes_on_from_the_one_before_and_a_killed_one_from_its_last_epoch(tmp_path: Path) -> None:
    warm_up, main, whole, broken = (tmp_path / name for name in ("warmup", "main", "gan", "broken"))
    succeed("experiment=sic_warmup_small", *TINY, f"hydra.run.dir={warm_up}")
    succeed("experiment=sic_small", *TINY, f"ckpt={warm_up / 'checkpoints' / 'last.ckpt'}", f"hydra.run.dir={main}")
    gan = ("experiment=sic_gan_small", *TINY, f"ckpt={main / 'checkpoints' / 'last.ckpt'}")
    succeed(*gan, f"hydra.run.dir={whole}")

    kill_after_an_epoch(*gan, run_folder=broken)
    succeed(f"resume={broken}")
    states = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (whole, broken)]
    assert states[0]["generator_steps"] == states[1]["generator_steps"] == states[0]["global_step"] == 12
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name]), name
    before = torch.load(main / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert not any(name.startswith("discriminator") for name in before)
    assert not torch.equal(before["codec.gs.outconv.weight"], states[0]["state_dict"]["codec.gs.outconv.weight"])


@pytest.mark.slow
def test_the_last_phase_runs_on_two_processes(tmp_path: Path) -> None:
    ranks = ("trainer=ddp_cpu", "trainer.strategy=ddp_find_unused_parameters_true")
    succeed("experiment=sic_gan_small", *TINY, *ranks, f"hydra.run.dir={tmp_path}")
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["generator_steps"] == state["global_step"] == 12
