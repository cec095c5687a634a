"""The discriminator's names, shapes and counts as published, what it sees, and what it leaves alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from lightning_modules.sic.discriminator import Discriminator


@pytest.fixture(scope="module")
def settings(repository: Path) -> Any:
    configured = OmegaConf.load(repository / "conf" / "objective" / "sic.yaml").discriminator
    return OmegaConf.to_container(configured)


@pytest.fixture
def small() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(groups=3, group_width=4, condition=5, widths=[4, 6, 8, 10])


def test_the_published_one_has_3_238_592_parameters_under_45_names(settings: Any) -> None:
    with torch.device("meta"):
        judge = Discriminator(groups=16, group_width=32, **settings)
    assert sum(parameter.numel() for parameter in judge.parameters()) == 3_238_592
    expected: dict[str, tuple[int, ...]] = {f"context_conv.{i}.weight": (12, 32 * (i + 1), 3, 3) for i in range(16)}
    expected |= {f"context_conv.{i}.bias": (12,) for i in range(16)}
    widths = [15, 64, 128, 256, 512]
    for layer, (before, after) in enumerate(pairwise(widths), start=1):
        name = f"dsc{layer}.cbr.0.conv.weight"
        expected |= {f"{name}_orig": (after, before, 4, 4), f"{name}_u": (after,), f"{name}_v": (16 * before,)}
    expected |= {"dsc5.cbr.0.conv.weight": (1, 512, 1, 1)}
    assert len(expected) == 45
    assert {name: tuple(value.shape) for name, value in judge.state_dict().items()} == expected


@pytest.mark.parametrize("level", [1, 2, 3])
def test_it_judges_patches_by_picture_and_coded_groups(small: Discriminator, level: int) -> None:
    small.eval()
    x, y_hat = torch.rand(2, 3, 64, 48), torch.randn(2, 12, 4, 3)
    with torch.no_grad():
        logits = small(x, y_hat, level)
        uncoded, coded = y_hat.clone(), y_hat.clone()
        uncoded[:, 4 * level :] += 1
        coded[:, 4 * level - 1] += 1
        assert logits.shape == (2, 1, 4, 3)
        assert torch.equal(small(x, uncoded, level), logits)
        assert not torch.allclose(small(x, coded, level), logits)
        assert not torch.allclose(small(1 - x, y_hat, level), logits)


def test_latents_learn_nothing_from_it_pictures_do(small: Discriminator) -> None:
    x, y_hat = torch.rand(1, 3, 32, 32, requires_grad=True), torch.randn(1, 12, 2, 2, requires_grad=True)
    small(x, y_hat, 2).mean().backward()
    assert y_hat.grad is None
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    trained = {name for name, value in small.named_parameters() if value.grad is not None}
    assert {name for name in trained if name.startswith("context_conv")} == {
        "context_conv.1.weight",
        "context_conv.1.bias",
    }


def test_weights_come_to_a_norm_of_one_by_an_iteration_a_training_pass(small: Discriminator) -> None:
    x, y_hat = torch.rand(1, 3, 32, 32), torch.randn(1, 12, 2, 2)
    convolutions: list[Any] = [small.get_submodule(f"dsc{layer}.cbr.0.conv") for layer in (1, 2, 3, 4)]
    for _ in range(50):
        small(x, y_hat, 3)
    for convolution in convolutions:
        norm = torch.linalg.matrix_norm(convolution.weight.detach().flatten(1), ord=2)
        assert float(norm) == pytest.approx(1, abs=0.02)
    small.eval()
    before = {name: value.clone() for name, value in small.state_dict().items()}
    small(x, y_hat, 3)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_it_starts_from_kaiming_weights_and_no_biases() -> None:
    torch.manual_seed(0)
    judge = Discriminator(groups=2, group_width=40, condition=12, widths=[32, 64])
    for name, fan in (("context_conv.1.weight", 80 * 9), ("dsc1.cbr.0.conv.weight_orig", 15 * 16)):
        deviation = float(judge.get_parameter(name).detach().std())
        assert deviation == pytest.approx((2 / fan) ** 0.5, rel=0.05), name
    assert not judge.get_parameter("context_conv.0.bias").any()
