"""The last phase: a game of two networks in which the codec's steps alone are counted."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from callbacks.last_checkpoint import LastCheckpoint
from lightning_modules.checkpoints.checkpoint import load_codec
from lightning_modules.sic.codec import SicCodec
from lightning_modules.sic.gan_module import GanModule
from lightning_modules.training.muon import Muon
from tests.lightning_modules.sic.small_training import (
    TABLE,
    batches,
    fit,
    gan_module,
    progressive,
    sic_module,
    small_codec,
    trainer,
)

REAL, FULL, SAMPLED, FULL_AGAIN, SAMPLED_AGAIN = range(5)
"""What the discriminator is asked in a step."""


class Asked(NamedTuple):
    """A question to the discriminator and its answer. learning: whether it was about to learn from it."""

    x: Tensor
    level: int
    logits: Tensor
    learning: bool


def watch(module: GanModule) -> list[Asked]:
    """Grows by every question."""
    asked: list[Asked] = []

    def note(judge: torch.nn.Module, inputs: Any, logits: Tensor) -> None:
        learning = all(parameter.requires_grad for parameter in judge.parameters())
        asked.append(Asked(inputs[0], inputs[2], logits.detach(), learning))

    module.discriminator.register_forward_hook(note)
    return asked


def gradients(module: torch.nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


def equal(one: list[Tensor | None], other: list[Tensor | None]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


# ---- a step


def test_the_discriminator_learns_first_and_the_codec_hears_what_it_then_says() -> None:
    module = gan_module(progressive(samples=3), median_steps=100)
    asked = watch(module)
    fit(module, 1)
    assert [one.learning for one in asked] == [True, True, True, False, False]
    assert [len(one.x) for one in asked] == [2, 2, 6, 2, 6]
    assert [one.x.requires_grad for one in asked] == [False, False, False, True, True]
    assert torch.equal(asked[FULL].x, asked[FULL_AGAIN].x)
    assert not torch.allclose(asked[FULL].logits, asked[FULL_AGAIN].logits, atol=1e-4)


def test_the_losses_are_those_of_the_game() -> None:
    module = gan_module(progressive(samples=3))
    asked = watch(module)
    found = fit(module, 1).callback_metrics
    real, full, sampled = (
        F.softplus(sign * asked[k].logits).mean() for sign, k in ((-1, REAL), (1, FULL), (1, SAMPLED))
    )
    assert float(found["train/discriminator"]) == pytest.approx(float(real + full / 2 + sampled / 2), rel=1e-5)

    codec = sic_module(progressive(samples=3)).codec
    codec.update()  # medians, as before the first step
    torch.manual_seed(0)  # seed 0, step 0, rank 0
    main = progressive(samples=3)(codec, batches()[0].float() / 255, 0)
    g_full, g_sampled = (float(F.softplus(-asked[k].logits).mean()) for k in (FULL_AGAIN, SAMPLED_AGAIN))
    expected = float(main.loss) + 0.5 * TABLE.top.perception * g_full + 0.5 * TABLE(4).perception * g_sampled
    assert float(found["train/loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(found["train/perceptual_full"]) == pytest.approx(float(main.terms["perceptual_full"]) + g_full)


def test_neither_network_learns_in_the_others_step() -> None:
    module, kept = gan_module(), []

    class Keep(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            for optimizer in trainer.optimizers:
                optimizer.register_step_pre_hook(lambda *_: kept.append(state()))

    def state() -> tuple[list[Tensor | None], list[Tensor | None]]:
        return gradients(module.codec), gradients(module.discriminator)

    fit(module, 2, Keep())
    assert len(kept) == 4, "the discriminator, the codec, and both again"
    assert all(gradient is None for gradient in kept[0][0])
    assert equal(kept[1][1], kept[0][1])
    assert equal(kept[2][0], kept[1][0])
    assert equal(kept[3][1], kept[2][1])
    assert not equal(kept[2][1], kept[1][1])
    assert not equal(kept[3][0], kept[2][0])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_game_that_weighs_nothing_is_the_main_phase(precision: Any) -> None:
    """Also in mixed precision, in which manual steps of Lightning's would learn in half precision."""
    muon = partial(Muon, lr=1e-4, adam_lr=1e-3, momentum=0.9, betas=(0.9, 0.99), eps=1e-8, axes=(2, 4))
    main = sic_module(progressive(samples=2), optimizer=muon)
    game = gan_module(progressive(samples=2), optimizer=muon, game=0.0)
    fit(main, 3, precision=precision)
    fit(game, 3, precision=precision)
    after = game.codec.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in main.codec.state_dict().items())
    assert not torch.equal(after["gs.outconv.weight"], small_codec().gs.outconv.weight)


@pytest.mark.parametrize(("clip", "clipped"), [(None, False), (0.01, True)])
def test_the_discriminator_is_clipped_only_when_told(clip: float | None, clipped: bool) -> None:
    module = gan_module(discriminator_clip=clip)
    fit(module, 1)
    norm = torch.stack([p.grad.norm() for p in module.discriminator.parameters() if p.grad is not None]).norm()
    assert (float(norm) < 0.011) == clipped
    codecs = torch.stack([p.grad.norm() for p in module.codec.parameters() if p.grad is not None]).norm()
    assert float(codecs) == pytest.approx(0.5, rel=1e-3)


# ---- counting


def test_codec_steps_are_what_stops_a_training_what_schedules_follow_and_what_is_counted() -> None:
    factors: list[int] = []

    def schedule(step: int) -> float:
        factors.append(step)
        return 0.5**step

    module = gan_module(schedule=schedule)
    found = fit(module, 3)
    assert module.generator_steps == found.global_step == 3
    assert [group["lr"] for optimizer in found.optimizers for group in optimizer.param_groups] == [0.125e-3, 0.125e-3]
    assert max(factors) == 3
    for optimizer in found.optimizers:
        assert {float(state["step"]) for state in optimizer.state.values()} <= {1.0, 2.0, 3.0}
        assert max(float(state["step"]) for state in optimizer.state.values()) == 3


def test_levels_go_down_by_codec_steps_across_epochs_and_interruptions(tmp_path: Path) -> None:
    first, second = gan_module(), gan_module()
    asked = watch(first)
    fit(first, 2, LastCheckpoint(path=tmp_path / "last.ckpt"))
    asked_again = watch(second)
    fit(second, 6, resume=tmp_path / "last.ckpt")
    assert second.generator_steps == 6
    assert [one.level for one in [*asked, *asked_again][::5]] == [4, 3, 2, 1, 4, 3]


def test_a_resumed_training_goes_on_bit_by_bit(tmp_path: Path) -> None:
    """Both networks, the power iterations of spectral norm, both optimizers and both schedules."""
    unbroken, resumed = gan_module(), gan_module()
    whole = fit(unbroken, 4)
    fit(gan_module(), 2, LastCheckpoint(path=tmp_path / "last.ckpt"))
    rest = fit(resumed, 4, resume=tmp_path / "last.ckpt")
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    for one, other in zip(whole.optimizers, rest.optimizers, strict=True):
        for before, after in zip(one.state.values(), other.state.values(), strict=True):
            assert all(torch.equal(before[key], after[key]) for key in before)


# ---- what is kept


def test_the_codec_comes_out_of_a_checkpoint_without_the_discriminator(tmp_path: Path) -> None:
    module = gan_module()
    fit(module, 1).save_checkpoint(tmp_path / "last.ckpt")
    names = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert {name.partition(".")[0] for name in names} == {"codec", "discriminator"}
    codec = load_codec(str(tmp_path / "last.ckpt"), SicCodec, lmbda=0.03, cache_dir=tmp_path)
    assert set(codec.state_dict()) == set(module.codec.state_dict())
    assert torch.equal(codec.state_dict()["gs.outconv.weight"], module.codec.gs.outconv.weight)


def test_the_discriminator_has_the_sizes_of_the_codec_it_judges() -> None:
    module = gan_module()
    convolutions = list(module.discriminator.context_conv.children())
    assert [convolution.in_channels for convolution in convolutions] == [3, 6, 9, 12]


# ---- ranks


def test_two_ranks_teach_the_discriminator_by_their_mean_gradient() -> None:
    """Although a backward pass gives the codec none; for the codec's own see `test_module.py`."""
    rate = partial(torch.optim.SGD, lr=1e-3)
    module = gan_module(optimizer=rate, discriminator_optimizer=rate, clip=1e9)
    before = {name: value.detach().clone() for name, value in module.discriminator.named_parameters()}
    alone = []
    for rank in range(2):
        one = gan_module(optimizer=rate, discriminator_optimizer=rate, clip=1e9)
        alone.append(one)
        one.codec.update()
        torch.manual_seed(rank)  # seed 0, step 0
        x = batches(2)[rank].float() / 255
        decoded = one.phase.decode(one.codec, x, 0)
        judged = [one.judge(value.detach(), decoded) for value in (x, decoded.full, decoded.sampled)]
        (F.softplus(-judged[0]).mean() + sum(F.softplus(fake).mean() for fake in judged[1:]) / 2).backward()
    two = trainer(1, strategy="ddp_fork_find_unused_parameters_true", devices=2, use_distributed_sampler=True)
    two.fit(module, torch.utils.data.DataLoader(batches(2), batch_size=None))  # type: ignore[arg-type]
    after = dict(module.discriminator.named_parameters())
    pairs = zip(*(one.discriminator.named_parameters() for one in alone), strict=True)
    for (name, one), (_, other) in pairs:
        if one.grad is not None and other.grad is not None:
            expected = before[name] - 1e-3 * (one.grad + other.grad) / 2
            assert torch.allclose(after[name], expected, rtol=1e-4, atol=1e-7), name


def test_ranks_that_expect_a_gradient_for_everything_are_told_the_setting() -> None:
    two = trainer(1, strategy="ddp_fork", devices=2)
    with pytest.raises(Exception, match=r"give trainer\.strategy=ddp_find_unused_parameters_true"):
        two.fit(gan_module(), torch.utils.data.DataLoader(batches(2), batch_size=None))  # type: ignore[arg-type]
