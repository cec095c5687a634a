"""What stands in for uncoded groups: integers by the published law, reproducible, with gradients to their means."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.sic.synonym_noise import mean_detail, normal_detail, uniform_detail


@pytest.mark.parametrize("centre", [3.0, -1.75, 0.3])
def test_integers_fall_around_the_mean_by_the_law_of_the_authors(centre: float) -> None:
    """P(n) = P(n - 1) = P(n + 1) = 1/4, P(n + 2) = (1/2 + f)/4, P(n - 2) = (1/2 - f)/4 for n + f the mean."""
    nearest = round(centre)
    offset = centre - nearest
    uniform = torch.rand(1, 1, 1, 500, 500, generator=torch.Generator().manual_seed(0))
    drawn = uniform_detail(torch.full((1, 1, 500, 500), centre), uniform, reach=2.0)
    shares = [float((drawn == nearest + k).double().mean()) for k in (-2, -1, 0, 1, 2)]
    assert shares == pytest.approx([(0.5 - offset) / 4, 0.25, 0.25, 0.25, (0.5 + offset) / 4], abs=0.005)
    assert sum(shares) == pytest.approx(1)


def test_the_second_draw_of_all_pictures_follows_the_first_of_all() -> None:
    means = torch.tensor([100.0, 200.0]).reshape(2, 1, 1, 1)
    uniform = torch.tensor([[0.0, 0.0], [0.5, 0.5], [0.99, 0.99]]).reshape(3, 2, 1, 1, 1)
    assert uniform_detail(means, uniform, reach=2.0).flatten().tolist() == [98, 198, 100, 200, 102, 202]


def test_normal_detail_is_as_wide_as_the_hyperprior_says() -> None:
    draws = torch.randn(1, 1, 1, 400, 400, generator=torch.Generator().manual_seed(0))
    drawn = normal_detail(torch.full((1, 1, 400, 400), 0.2), torch.full((1, 1, 400, 400), 3.0), draws)
    assert torch.equal(drawn, drawn.round())
    assert float(drawn.mean()) == pytest.approx(0.2, abs=0.05)
    assert float(drawn.std()) == pytest.approx((9 + 1 / 12) ** 0.5, rel=0.01)


def test_a_preview_is_the_rounded_mean() -> None:
    means = torch.tensor([[0.4, 0.6], [-1.5, 2.5]]).reshape(1, 1, 2, 2)
    assert mean_detail(means).flatten().tolist() == [0, 1, -2, 2]


def test_gradients_pass_to_the_means_as_if_nothing_were_rounded() -> None:
    means = torch.randn(2, 3, 4, 4, requires_grad=True)
    uniform_detail(means, torch.rand(5, 2, 3, 4, 4), reach=2.0).sum().backward()
    assert means.grad is not None
    assert torch.equal(means.grad, torch.full_like(means, 5.0))
