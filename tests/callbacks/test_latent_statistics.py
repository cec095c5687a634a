"""Rates of channels and levels and histograms of latents reach every kind of logger, and add up to the estimates."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

from callbacks.latent_statistics import LatentStatistics
from callbacks.summary_metrics import SummaryMetrics
from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.codec import Codec
from lightning_modules.hyperprior.codec import HyperpriorCodec
from tests.harness.wandb_records import read_run
from tests.lightning_modules.rec.small_codecs import lossy_codec, picture
from tests.lightning_modules.sic.small_networks import small_codec

PICTURES = [picture(size, 80, size) for size in (64, 70, 90)]


@pytest.fixture(scope="module")
def codec() -> Codec:
    """A trained one, whose tables and densities agree."""
    return load_model(PACKAGED / "demo-0.005.safetensors").requires_grad_(False)


def validate(codec: Any, logger: Logger, folder: Path, **changes: Any) -> LatentStatistics:
    """One validation of three pictures, of which two count."""
    settings: dict[str, Any] = {
        "is_global_zero": True, "sanity_checking": False, "loggers": [logger], "current_epoch": 0, "global_step": 7,
        "max_epochs": -1, "max_steps": -1, "default_root_dir": folder, **changes,
    }  # fmt: skip
    trainer: Any = SimpleNamespace(**settings)
    module: Any = SimpleNamespace(codec=codec)
    statistics = LatentStatistics(num_images=2, bins=8)
    SummaryMetrics(min=["val/loss"], max=["test/psnr"], last=[]).setup(trainer, module, "fit")
    statistics.on_validation_epoch_start(trainer, module)
    for number, x in enumerate(PICTURES):
        statistics.on_validation_batch_end(trainer, module, {"x": x}, None, number)
    statistics.on_validation_epoch_end(trainer, module)
    return statistics


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def estimated(codec: Codec, pictures: list[Tensor]) -> dict[str, float]:
    """Bits by latent of all pictures."""
    found = [codec.estimate(codec.analyze(x)).bits for x in pictures]
    return {name: sum(float(bits[name]) for bits in found) for name in found[0]}


def test_a_logger_of_numbers_gets_rates_and_leaves_channels_and_spreads_as_files(codec: Codec, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="csv")
    validate(codec, logger, tmp_path)
    logger.save()
    (logged,) = rows(tmp_path / "csv" / "metrics.csv")
    channels = rows(tmp_path / "latents" / "00000007_channels.csv")
    assert sorted(row["latent"] for row in channels) == ["y"] * 192 + ["z"] * 64
    pixels = sum(x.shape[-2] * x.shape[-1] for x in PICTURES[:2])
    for name, bits in estimated(codec, PICTURES[:2]).items():
        assert float(logged[f"rates/{name}"]) == pytest.approx(bits / pixels, rel=0.05)
        shares = [float(row["bpp"]) for row in channels if row["latent"] == name]
        assert sum(shares) == pytest.approx(float(logged[f"rates/{name}"]), rel=1e-4)
    spread = rows(tmp_path / "latents" / "00000007_spread.csv")
    y = torch.cat([codec.analyze(x).variables["y"].flatten() for x in PICTURES[:2]])
    assert sum(int(row["count"]) for row in spread if row["latent"] == "y") == y.numel()
    with Image.open(tmp_path / "latents" / "00000007.png") as figure:
        assert figure.size == (900, 320)


def test_tensorboard_gets_rates_and_histograms(codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, tags = TensorBoardLogger(tmp_path), {}
    monkeypatch.setattr(logger.experiment, "add_histogram", lambda tag, values, step: tags.update({tag: values}))
    monkeypatch.setattr(logger.experiment, "add_histogram_raw", lambda tag, **facts: tags.update({tag: facts}))
    validate(codec, logger, tmp_path)
    assert tags.keys() == {"channels/y", "channels/z", "latents/y", "latents/z"}
    assert tags["latents/y"]["num"] == sum(tags["latents/y"]["bucket_counts"]) > 0
    assert not (tmp_path / "latents").exists()


def test_wandb_gets_them_on_the_axis_of_steps_and_knows_which_value_stands_for_the_run(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, project="latentpress")
    validate(codec, logger, tmp_path)
    wandb.finish()
    run = read_run(tmp_path)
    ((step, rate),) = run.course("rates/y")
    assert step == 7
    assert rate > 0
    assert {"latents/y.bins", "latents/z.values", "channels.nrows"} <= run.keys()
    assert run.goals["val/loss"] == ("trainer/global_step", "min")
    assert run.goals["test/psnr"] == ("trainer/global_step", "max")
    assert run.goals["*"][0] == "trainer/global_step"


def test_every_level_of_sic_has_a_rate(tmp_path: Path) -> None:
    sic = small_codec()
    statistics = validate(sic, CSVLogger(tmp_path, name="", version="csv"), tmp_path)
    assert statistics.bits.keys() == {"z", *(f"y{level}" for level in range(1, sic.levels + 1))}
    found = {name: float(bits.sum()) for name, bits in statistics.bits.items()}
    for name, bits in estimated(sic, PICTURES[:2]).items():
        assert found[name] == pytest.approx(bits, rel=0.25), "untrained, so tables and densities differ"


def test_every_level_of_relative_entropy_coding_has_a_rate(tmp_path: Path) -> None:
    rec = lossy_codec()
    statistics = validate(rec, CSVLogger(tmp_path, name="", version="csv"), tmp_path)
    assert list(statistics.bits) == [f"z{level}" for level in range(len(rec.networks.channels))]
    total = sum(float(bits.sum()) for bits in statistics.bits.values())
    assert total == pytest.approx(estimated(rec, PICTURES[:2])["latents"], rel=1e-4)
    assert statistics.values == {}


@pytest.mark.parametrize(
    "changes", [{"sanity_checking": True}, {"current_epoch": 2}, {"is_global_zero": False}], ids=str
)
def test_nothing_is_computed_between_milestones_or_on_other_processes(
    changes: dict[str, Any], codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HyperpriorCodec, "rate_map", lambda *_: pytest.fail("it was computed"))
    validate(codec, CSVLogger(tmp_path, name="", version="csv"), tmp_path, **changes)
    assert not (tmp_path / "latents").exists()


def test_a_module_without_a_codec_is_left_alone(tmp_path: Path) -> None:
    assert validate(None, CSVLogger(tmp_path, name="", version="csv"), tmp_path).pixels == 0


def test_a_figure_of_the_same_facts_has_the_same_bytes() -> None:
    from callbacks.latent_figure import latent_figure

    facts = ({"y": np.array([0.1, 0.0])}, {"y": (np.array([1, 3]), np.array([-1.0, 0.0, 1.0]))})
    assert latent_figure(*facts) == latent_figure(*facts)
