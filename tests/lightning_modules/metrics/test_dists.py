"""DISTS by its definition, with weights that are not in the repository and need not be."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from lightning_modules.errors import CodingError
from lightning_modules.metrics.dists import Dists
from lightning_modules.metrics.lpips import TRUNKS

SIMILARITY_CONSTANT = 1e-6
STAGES = ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30))
"""Layers of VGG 16 up to the activations that are compared; each stage but the first begins with a pooling."""


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nn.Sequential]:
    """An untrained trunk where PyTorch looks for the published one; its features."""
    home = tmp_path_factory.mktemp("torch")
    torch.manual_seed(0)
    network = torchvision.models.vgg16(weights=None)
    (home / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(network.state_dict(), home / "hub" / "checkpoints" / TRUNKS["vgg"])
    features = network.features.eval()
    assert isinstance(features, nn.Sequential)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(home))
        yield features
    shutil.rmtree(home)


def features_of(vgg: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The picture and the last activation of each stage, pooled by the root of a windowed mean of squares."""
    window = torch.tensor([0.5, 1.0, 0.5]).outer(torch.tensor([0.5, 1.0, 0.5])) / 4
    found, value = (
        [x],
        (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None],
    )
    for first, last in STAGES:
        for layer in vgg[first:last]:
            if isinstance(layer, nn.MaxPool2d):
                weight = window.expand(value.shape[1], 1, 3, 3)
                squares = nn.functional.conv2d(value.square(), weight, stride=2, padding=1, groups=value.shape[1])
                value = (squares + 1e-12).sqrt()
            else:
                value = layer(value)
        found.append(value)
        value = value.clone()
    return found


@torch.no_grad()
def test_it_is_one_minus_weighted_similarities_of_means_and_of_structure(vgg: nn.Sequential) -> None:
    x, x_hat = torch.rand(2, 2, 3, 64, 48)
    distance = Dists()
    network = distance.network
    weights = torch.cat([network.alpha, network.beta], dim=1).flatten()  # type: ignore[list-item]
    alpha, beta = (weights / weights.sum()).double().chunk(2)
    similarity, start = torch.zeros(2, dtype=torch.float64), 0
    for a, b in zip(features_of(vgg, x), features_of(vgg, x_hat), strict=True):
        a, b = a.double().flatten(2), b.double().flatten(2)
        part = slice(start, start + a.shape[1])
        means = (2 * a.mean(2) * b.mean(2) + SIMILARITY_CONSTANT) / (
            a.mean(2) ** 2 + b.mean(2) ** 2 + SIMILARITY_CONSTANT
        )
        covariance = ((a - a.mean(2, True)) * (b - b.mean(2, True))).mean(2)
        structure = (2 * covariance + SIMILARITY_CONSTANT) / (
            a.var(2, correction=0) + b.var(2, correction=0) + SIMILARITY_CONSTANT
        )
        similarity += (alpha[part] * means + beta[part] * structure).sum(1)
        start += a.shape[1]
    assert distance(x, x_hat).tolist() == pytest.approx((1 - similarity).tolist(), abs=2e-4)


def test_equal_pictures_have_none_and_gradients_pass(vgg: nn.Sequential) -> None:
    distance, x = Dists(), torch.rand(1, 3, 64, 64)
    assert distance(x, x).tolist() == pytest.approx([0.0], abs=1e-5)
    x_hat = torch.rand(1, 3, 64, 64, requires_grad=True)
    distance(x, x_hat).sum().backward()
    assert x_hat.grad is not None
    assert x_hat.grad.abs().sum() > 0


def test_without_weights_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CodingError, match=r"vgg16-397923af.pth: not in .* put it there from"):
        Dists(source="file:///nowhere")(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
