"""The distance of edges: zero for equal pictures, blind to brightness, and growing with blur."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lightning_modules.metrics.edge_distance import edge_distance


def picture(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_it_is_0_for_what_differs_by_a_constant_alone() -> None:
    assert edge_distance(picture(), picture(), 3).tolist() == [0, 0]
    assert edge_distance(picture(), picture() + 0.25, 3).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_it_grows_with_blur_each_picture_for_itself() -> None:
    x = picture()
    blurred = [F.avg_pool2d(x, size, 1, size // 2, count_include_pad=False) for size in (3, 7)]
    little, much = (edge_distance(x, one, 3) for one in blurred)
    assert bool((little > 0).all())
    assert bool((little < much).all())
    assert torch.allclose(edge_distance(x[1:], blurred[0][1:], 3), little[1:])


def test_one_octave_is_the_mean_difference_of_neighbours() -> None:
    x, x_hat = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.0, 1.0], [0.0, 3.0]]]])
    assert float(edge_distance(x, x_hat, 1)) == pytest.approx((0 + 2) / 2 + (1 + 3) / 2)


def test_pictures_too_small_for_all_octaves_have_fewer() -> None:
    x = picture()[..., :1, :1]
    assert edge_distance(x, x + 1, 3).tolist() == [0, 0]


def test_it_is_differentiable() -> None:
    x_hat = (picture() * 0.5).requires_grad_()
    edge_distance(picture(), x_hat, 3).sum().backward()
    assert x_hat.grad is not None
    assert bool(x_hat.grad.any())
