"""What goes wrong in the authors' training, or is unusual in it and must stay, one test for each.

The numbers are those of the list in the specification of this room; `test_traps.py` has the others.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.records import SourceImage
from lightning_modules.sic.module import SicModule
from lightning_modules.sic.phase import TripleTradeOff, WarmUp
from tests.lightning_modules.sic.small_networks import pictures
from tests.lightning_modules.sic.small_training import (
    EPOCH,
    WARM_UP,
    fit,
    gan_module,
    progressive,
    settings,
    sic_module,
    trainer,
)


@pytest.fixture(scope="module")
def composed(repository: Path) -> Any:
    def make(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
            return compose("config", overrides=[*overrides, "paths.output_dir=out"])

    return make


@pytest.mark.parametrize("phase", [WARM_UP, progressive()], ids=["warm-up", "main"])
def test_traps_01_and_02_the_warm_up_starts_validates_and_saves_like_the_other_phases(
    phase: WarmUp | TripleTradeOff, tmp_path: Path
) -> None:
    fit(sic_module(phase), EPOCH, ModelCheckpoint(tmp_path, "best", monitor="val/loss"))
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]
    picture = SourceImage("a", pictures(1, 3, 70, 50))
    told = sic_module(phase)
    told.trainer = trainer(1)
    told.log_dict = lambda *unused, **settings: None  # type: ignore[method-assign]
    assert told.validation_step(picture, 0)["x_hat"].shape == picture.x.shape


def test_trap_03_validation_is_free_of_noise() -> None:
    codec = sic_module().codec
    for phase in (WARM_UP, progressive()):
        with torch.no_grad():
            once, again = (phase.validate(codec, pictures(1, 3, 64, 64)) for _ in range(2))
        assert float(once.loss) == float(again.loss)


def test_trap_04_the_last_phase_trains_unless_another_task_is_named(composed: Any) -> None:
    assert composed("experiment=sic_gan").task.name == "fit"
    module = gan_module()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fit(module, 1)
    moved = {
        name.partition(".")[0] for name, value in module.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"codec", "discriminator"}


def test_trap_05_the_last_phase_keeps_its_latest_state_by_no_metric_that_could_be_missing(
    composed: Any, tmp_path: Path
) -> None:
    of_experiment = composed("experiment=sic_gan").callbacks.checkpoint
    assert of_experiment.monitor is None
    keep = ModelCheckpoint(tmp_path, of_experiment.filename, monitor=None, enable_version_counter=False)
    module = gan_module()
    fit(module, 2 * EPOCH, keep)
    kept = torch.load(keep.best_model_path, weights_only=True)
    assert kept["generator_steps"] == 2 * EPOCH
    assert all(torch.equal(value, kept["state_dict"][name]) for name, value in module.state_dict().items())


def test_trap_07_the_discriminators_gradient_is_left_as_it_is_by_default(composed: Any) -> None:
    assert composed("experiment=sic_gan").module.discriminator_clip is None


def test_trap_08_a_checkpoint_is_chosen_by_the_distance_that_training_uses() -> None:
    """Not by another one at its weights."""
    codec, x = sic_module().codec, pictures(1, 3, 64, 64)
    asked: list[int] = []

    def distance(x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
        asked.append(len(x_hat))
        return (x - x_hat).abs().flatten(1).mean(1)

    phase = TripleTradeOff(**{**vars(progressive()), "distance": distance})
    found = phase.validate(codec, x)
    assert len(asked) == 1 + 4
    assert float(found.terms["perceptual_full"]) == pytest.approx(float((x - found.x_hat).abs().mean()))


def test_trap_09_the_main_phase_begins_at_the_beginning_with_two_epochs_of_evenness(composed: Any) -> None:
    phase = composed("experiment=sic").module.phase
    assert phase.evenness.epochs * phase.evenness.steps_per_epoch == 2 * 6250
    fitted = fit(sic_module(progressive(epochs=1)), 1)
    assert "train/evenness" in fitted.callback_metrics
    assert "train/evenness" not in fit(sic_module(progressive(epochs=0)), 1).callback_metrics


def test_trap_10_what_the_command_line_says_counts(composed: Any) -> None:
    cfg = composed("experiment=sic", "steps=7", "objective.samples=1", "module.optimizer.lr=1e-3", "seed=5")
    assert (cfg.trainer.max_steps, cfg.module.phase.samples, cfg.module.optimizer.lr, cfg.module.seed) == (
        7,
        1,
        1e-3,
        5,
    )


def test_trap_35_gradients_are_reduced_by_nothing_but_distributed_data_parallel(repository: Path) -> None:
    """That it takes their mean is tested with two ranks, in `test_module.py` and `test_gan_module.py`."""
    for path in (repository / "lightning_modules" / "sic").glob("*.py"):
        assert not re.search(r"all_reduce|world_size\)?\s*[*/]|torch\.distributed", path.read_text()), path


def test_trap_36_crops_follow_the_codecs_steps_so_none_is_skipped_or_seen_twice(tmp_path: Path) -> None:
    """The data ask the trainer how many steps there were; the discriminator's must not be among them."""
    asked: list[int] = []

    class Ask(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *unused: Any) -> None:
            asked.append(trainer.global_step * trainer.accumulate_grad_batches)

    fit(gan_module(), EPOCH, Ask(), LastCheckpoint(path=tmp_path / "last.ckpt"))
    fit(gan_module(), 2 * EPOCH, Ask(), resume=tmp_path / "last.ckpt")
    assert asked == [0, 1, 2, 3]


def test_trap_37_ranks_draw_different_noise_and_each_the_same_again() -> None:
    def noise(rank: int) -> list[float]:
        module = RankedModule(**settings(WARM_UP))
        module.rank = rank
        module.trainer = trainer(1)
        module.on_train_batch_start(None, 0)
        return torch.rand(4).tolist()

    assert noise(0) == noise(0)
    assert noise(1) == noise(1)
    assert noise(0) != noise(1)


class RankedModule(SicModule):
    """Told its rank, instead of asking a trainer of many processes."""

    rank = 0

    @property
    def global_rank(self) -> int:
        return self.rank


def test_trap_47_optimizers_go_on_where_they_were(tmp_path: Path) -> None:
    """Moments and counts of both, which bit-equal resuming needs; here that they are in the file at all."""
    fit(gan_module(), EPOCH, LastCheckpoint(path=tmp_path / "last.ckpt"))
    states = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer_states"]
    assert len(states) == 2
    for state in states:
        assert all({"step", "exp_avg", "exp_avg_sq"} <= set(of_one) for of_one in state["state"].values())
        assert max(float(of_one["step"]) for of_one in state["state"].values()) == EPOCH


def test_trap_50_nothing_switches_certificates_off(repository: Path) -> None:
    sources = [
        path
        for folder in ("lightning_modules", "datamodules", "callbacks")
        for path in (repository / folder).rglob("*.py")
    ]
    assert len(sources) > 100
    for path in [*sources, repository / "run.py"]:
        assert not re.search(r"_create_unverified_context|verify\s*=\s*False|CERT_NONE", path.read_text()), path
