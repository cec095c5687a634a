"""The experiments of SIC's three phases: what they set is what the modules have."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from lightning_modules.metrics.edge_distance import edge_distance
from lightning_modules.metrics.lpips import PerceptualDistance
from lightning_modules.sic.gan_module import GanModule
from lightning_modules.sic.module import SicModule
from lightning_modules.sic.phase import TripleTradeOff, WarmUp
from lightning_modules.training.muon import Muon

PHASES = ("sic_warmup", "sic", "sic_gan")
EXPERIMENTS = [name + size for name in PHASES for size in ("", "_small")]


@pytest.fixture(scope="module")
def composed(repository: Path) -> Any:
    """(overrides) -> configuration."""

    def make(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
            return compose("config", overrides=[*overrides, "paths.output_dir=out"])

    return make


def build(cfg: DictConfig) -> SicModule:
    module = hydra.utils.instantiate(cfg.module, _convert_="all")
    assert isinstance(module, SicModule)
    return module


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_each_experiment_builds_its_phase(composed: Any, experiment: str) -> None:
    module = build(composed(f"experiment={experiment}", "debug=tiny"))
    assert type(module) is (GanModule if "gan" in experiment else SicModule)
    assert type(module.phase) is (WarmUp if "warmup" in experiment else TripleTradeOff)
    assert module.codec.groups == module.phase.table.levels == 4


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_tiny_run_needs_no_weights(composed: Any, experiment: str) -> None:
    phase: Any = build(composed(f"experiment={experiment}", "debug=tiny")).phase
    assert isinstance(phase.distance, partial)
    assert phase.distance.func is edge_distance


def test_the_full_size_experiments_are_the_authors(composed: Any) -> None:
    for experiment, steps, batch in (("sic_warmup", 2000, 8), ("sic", 1_000_000, 16), ("sic_gan", 200_000, 16)):
        cfg = composed(f"experiment={experiment}")
        assert (cfg.steps, cfg.datamodule.batch_size, cfg.datamodule.crop) == (steps, batch, 256)
        assert cfg.module.optimizer.lr == 1e-4
        assert cfg.module.optimizer._target_.endswith("Adam" if experiment == "sic_warmup" else "AdamW")
        assert cfg.module.optimizer.get("weight_decay", 0) == (0 if experiment == "sic_warmup" else 5e-5)
        assert (cfg.trainer.gradient_clip_val or cfg.module.clip) == 0.5
        assert OmegaConf.to_container(cfg.module.codec.widths) == [256, 384, 512, 512]
        assert cfg.perceptual.trunk == "alex"
    main = composed("experiment=sic")
    assert (main.objective.samples, main.objective.alpha, main.objective.evenness.epochs) == (5, 0.5, 2)
    assert (cfg.module.discriminator_optimizer.lr, cfg.module.discriminator_optimizer.weight_decay) == (2e-4, 5e-5)


def test_numbers_of_the_objective_reach_the_phase(composed: Any) -> None:
    changes = ("objective.samples=3", "objective.alpha=0.25", "objective.detail_reach=1", "objective.absent_details=0")
    even = ("objective.evenness.epochs=7", "steps_per_epoch=11")
    module = build(composed("experiment=sic_gan", "debug=tiny", *changes, *even, "objective.game=0.125"))
    assert isinstance(module, GanModule)
    phase = module.phase
    assert (phase.samples, phase.alpha, phase.reach, phase.absent) == (3, 0.25, 1, 0)
    assert phase.evenness.epochs * phase.evenness.steps_per_epoch == 77
    assert (module.game, module.fake_weight) == (0.125, 0.5)


def test_the_perceptual_distance_is_a_choice(composed: Any) -> None:
    made = {name: composed("experiment=sic", f"perceptual={name}") for name in ("lpips", "lpips_squeeze")}
    trunks = {name: hydra.utils.instantiate(cfg.module.phase.distance) for name, cfg in made.items()}
    assert all(isinstance(distance, PerceptualDistance) for distance in trunks.values())
    assert [distance.trunk for distance in trunks.values()] == ["alex", "squeeze"]
    edges = composed("experiment=sic", "perceptual=edges").module.phase.distance
    assert float(hydra.utils.instantiate(edges)(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8))) == 0


def test_small_trainings_orthogonalise_linear_layers_as_well(composed: Any) -> None:
    for experiment in ("sic_warmup_small", "sic_small", "sic_gan_small"):
        module = build(composed(f"experiment={experiment}", "debug=tiny"))
        optimizer = module.make_optimizer(module.codec.parameters())
        assert isinstance(optimizer, Muon)
        assert {parameter.ndim for parameter in optimizer.param_groups[0]["params"]} == {2, 4}
