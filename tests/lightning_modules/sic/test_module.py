"""Training of the first two phases: levels by the step, medians by solving, resuming bit by bit, ranks that agree."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.densities import medians, update_medians
from lightning_modules.errors import CodingError
from lightning_modules.metrics.lpips import PerceptualDistance
from lightning_modules.records import Failure, SourceImage
from lightning_modules.sic.level_schedule import LevelTable
from lightning_modules.sic.networks import SicNetworks
from lightning_modules.sic.phase import StepLoss, TripleTradeOff, WarmUp
from tests.lightning_modules.sic.small_networks import pictures
from tests.lightning_modules.sic.small_training import WARM_UP, batches, fit, progressive, sic_module, trainer

SHARED_TRUNK = "data/lpips_squeezenet/squeezenet1_1_fp16.pth"


class Losses(L.Callback):
    """Of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, *rest: Any) -> None:
        self.values.append(float(outputs["loss"]))


class Levels(TripleTradeOff):
    """The main phase, with a note of the steps it was asked for."""

    def __call__(self, networks: SicNetworks, x: Tensor, step: int) -> StepLoss:
        seen.append((step, self.decode(networks, x, step).level))
        return super().__call__(networks, x, step)


seen: list[tuple[int, int]] = []


def test_the_loss_falls_on_pictures_seen_again_and_again() -> None:
    losses = Losses()
    fit(sic_module(), 12, losses)
    assert sum(losses.values[-2:]) < 0.9 * sum(losses.values[:2])


def test_noise_is_a_function_of_seed_and_step() -> None:
    def losses(disturbance: int, **changes: Any) -> list[float]:
        kept = Losses()
        torch.manual_seed(disturbance)
        fit(sic_module(progressive(), **changes), 2, kept)
        return kept.values

    assert losses(1) == losses(2)
    assert losses(1) != losses(1, seed=1)


def test_levels_go_down_by_the_step_across_epochs_and_interruptions(tmp_path: Path) -> None:
    seen.clear()
    phase = Levels(**vars(progressive()))
    fit(sic_module(phase), 2, LastCheckpoint(path=tmp_path / "last.ckpt"))
    fit(sic_module(phase), 6, resume=tmp_path / "last.ckpt")
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4, 5]
    assert [level for _, level in seen] == [4, 3, 2, 1, 4, 3]


@pytest.mark.parametrize("phase", [WARM_UP, progressive(epochs=1)], ids=["warm-up", "main"])
def test_a_resumed_training_goes_on_bit_by_bit(phase: WarmUp | TripleTradeOff, tmp_path: Path) -> None:
    unbroken = sic_module(phase)
    fit(unbroken, 4)
    fit(sic_module(phase), 2, LastCheckpoint(path=tmp_path / "last.ckpt"))
    resumed = sic_module(phase)
    fit(resumed, 4, resume=tmp_path / "last.ckpt")
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_medians_are_solved_for_on_the_way() -> None:
    """They move with the density of z, which its rate trains, and no optimizer touches them."""
    module = sic_module(median_steps=1, optimizer=partial(torch.optim.SGD, lr=1.0))
    fit(module, 3)
    moved = medians(module.codec.entropy_bottleneck).clone()
    update_medians(module.codec.entropy_bottleneck)
    assert not torch.allclose(moved, medians(sic_module().codec.entropy_bottleneck), atol=1e-4)
    assert torch.allclose(moved, medians(module.codec.entropy_bottleneck), atol=0.05)
    assert not module.codec.entropy_bottleneck.quantiles.requires_grad


def test_weights_that_the_mask_hides_are_put_back_to_0_whatever_an_optimizer_does() -> None:
    module = sic_module(median_steps=1)
    layer = module.codec.context_model.layer
    with torch.no_grad():
        layer.weight.add_(1.0)
    module.trainer = trainer(1)
    module.on_train_batch_start(None, 0)
    assert not layer.weight[~layer.mask].any()
    assert layer.weight[layer.mask].any()


def test_a_codec_of_other_levels_is_refused() -> None:
    with pytest.raises(CodingError, match="a codec of 4 levels, a loss for 8; choose the experiment"):
        sic_module(WarmUp(LevelTable(8, 2048.0, (32.0, 8.0), (64.0, 1.0)), lambda x, x_hat: x.sum()))


def test_the_perceptual_network_is_in_no_checkpoint(shared: Path, tmp_path: Path) -> None:
    phase = WarmUp(WARM_UP.table, PerceptualDistance("squeeze", shared / SHARED_TRUNK))
    fit(sic_module(phase), 1).save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {f"codec.{name}" for name in sic_module().codec.state_dict()}
    trained = sum(parameter.requires_grad for parameter in sic_module().codec.parameters())
    assert len(checkpoint["optimizer_states"][0]["state"]) == trained


def test_validation_takes_pictures_of_any_size_and_logs_what_each_level_costs() -> None:
    module, pictures_of = sic_module(progressive()), [SourceImage("a", pictures(1, 3, 40, 90))]
    found = trainer(1)
    found.validate(module, DataLoader(pictures_of, batch_size=None), verbose=False)  # type: ignore[arg-type]
    logged = {name: float(value) for name, value in found.callback_metrics.items()}
    assert logged["val/bpp_1"] < logged["val/bpp_4"] == pytest.approx(logged["val/bpp"])
    assert logged["val/mse"] == pytest.approx(255**2 * logged["val/mse_full"], rel=1e-4)
    with pytest.raises(CodingError, match="b: damaged"):
        module.validation_step(Failure("b", "b: damaged"), 0)


def test_two_ranks_take_the_mean_gradient_of_their_own_pictures_and_noise() -> None:
    """Plain DistributedDataParallel, nothing reduced by hand: after a step both have what one would, given both."""
    data, rate = batches(2), 1e-3
    plain = partial(torch.optim.SGD, lr=rate)
    module, ranks = sic_module(progressive(), optimizer=plain), []
    for rank, x in enumerate(data):
        alone = sic_module(progressive(), optimizer=plain)
        update_medians(alone.codec.entropy_bottleneck)
        torch.manual_seed(rank)  # seed 0, step 0
        alone.phase(alone.codec, x.float() / 255, 0).loss.backward()
        ranks.append(alone.codec)
    two = trainer(1, strategy="ddp_fork", devices=2, use_distributed_sampler=True)
    two.fit(module, DataLoader(data, batch_size=None, shuffle=False))  # type: ignore[arg-type]
    after = dict(module.codec.named_parameters())
    for (name, one), other in zip(ranks[0].named_parameters(), ranks[1].parameters(), strict=True):
        if one.grad is not None and other.grad is not None:
            expected = one - rate * (one.grad + other.grad) / 2
            assert torch.allclose(after[name], expected, rtol=1e-4, atol=1e-6), name
    first, second = (one.gs.outconv.weight.grad for one in ranks)
    assert first is not None
    assert second is not None
    assert not torch.allclose(first, second)
