"""Noise is an image's own: a function of its pixels and the seed, whatever is refined with it, before it or where."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.sga.noise import gumbel, image_noise, image_seeds, logistic

X = torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))
LIKE = torch.zeros(3, 4, 2, 3)


def test_an_image_draws_the_same_numbers_alone_and_at_any_place_of_a_batch() -> None:
    together, reversed_ = image_noise(X, seed=1), image_noise(X.flip(0), seed=1)
    alone = image_noise(X[1:2], seed=1)
    for _ in range(2):
        batch = together(LIKE)
        assert torch.equal(alone(LIKE[:1]), batch[1:2])
        assert torch.equal(reversed_(LIKE), batch.flip(0))


def test_images_and_draws_differ() -> None:
    draw = image_noise(X, seed=1)
    first, second = draw(LIKE), draw(LIKE)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_noise_depends_on_the_seed_the_pixels_and_the_shape_only() -> None:
    assert image_seeds(X, 1) != image_seeds(X, 2)
    assert image_seeds(X + 1e-4 / 255, 1) == image_seeds((X * 255).round() / 255, 1)
    assert len(set(image_seeds(X, 1))) == 3
    assert image_seeds(torch.zeros(1, 3, 4, 6), 0) != image_seeds(torch.zeros(1, 3, 6, 4), 0)


def test_seeds_fit_the_32_bits_that_a_cpu_generator_uses() -> None:
    assert all(0 <= seed < 2**32 for seed in image_seeds(X, 2**40))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_numbers_are_strictly_inside_the_unit_interval(dtype: torch.dtype) -> None:
    drawn = image_noise(X[:1], seed=0)(torch.zeros(1, 1000, 1000, dtype=dtype))
    assert drawn.dtype == dtype
    assert float(drawn.min()) > 0
    assert float(drawn.max()) < 1
    assert abs(float(drawn.double().mean()) - 0.5) < 2e-3


def test_the_most_extreme_uniform_numbers_give_finite_variates() -> None:
    extremes = torch.tensor([2.0**-25, 1 - 2.0**-24])
    assert bool(torch.isfinite(logistic(extremes)).all())
    assert bool(torch.isfinite(gumbel(extremes)).all())
