"""Terms of the losses by themselves, where numbers can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from lightning_modules.sic.level_schedule import LevelTable
from lightning_modules.sic.losses import (
    Consistency,
    Terms,
    consistency,
    discriminator_loss,
    evenness,
    generator_loss,
    progressive_loss,
    spread,
    weighted_sum,
)

TABLE = LevelTable(levels=16, distortion=2048.0, perception=(32.0, 8.0), rate=(64.0, 1.0))


def terms(mse: float, perceptual: float, bpp: float) -> Terms:
    return Terms(*(torch.tensor(value) for value in (mse, perceptual, bpp)))


def test_a_weighted_sum_takes_the_weights_of_its_level() -> None:
    assert float(weighted_sum(TABLE(8), terms(0.01, 0.5, 0.25))) == pytest.approx(10.24 + 8 + 2)
    assert float(weighted_sum(TABLE.top, terms(0.01, 0.5, 0.25))) == pytest.approx(20.48 + 4 + 0.25)


def test_alpha_is_the_share_of_the_top_level() -> None:
    full, sampled = terms(1.0, 0.0, 0.0), terms(0.0, 0.0, 1.0)
    again = Consistency(torch.tensor(3.0), torch.tensor(5.0))
    loss = progressive_loss(TABLE, 8, full, sampled, again, alpha=0.75)
    assert float(loss) == pytest.approx(0.75 * 2048 + 0.25 * 8 + 3 + 5)


def test_spread_is_the_unbiased_deviation_minus_the_least() -> None:
    assert float(spread(torch.tensor([1.0, 2.0, 3.0]))) == pytest.approx(1 - 1)
    assert float(spread(torch.tensor([0.5, 0.5]))) == pytest.approx(-0.5)


def test_evenness_rewards_the_group_that_the_level_adds() -> None:
    rates = torch.tensor([1.0, 2.0, 3.0])
    assert [float(evenness(rates, level, 64.0, 4.0)) for level in (1, 2, 3)] == pytest.approx([60, 56, 52])


def test_re_encoding_that_finds_the_same_latents_costs_nothing() -> None:
    y_hat, details = torch.randn(2, 6, 3, 3).round(), torch.randn(4, 2, 3, 3).round()
    again = torch.cat([y_hat, torch.cat([y_hat[:, :4].repeat(2, 1, 1, 1), details], 1)])
    assert [*consistency(y_hat, details, again, absent=1)] == [0, 0]


def test_samples_follow_one_another_picture_by_picture() -> None:
    """Two draws of two pictures: a difference in the first draw of the second picture is seen there alone."""
    y_hat = torch.tensor([10.0, 20.0]).reshape(2, 1, 1, 1).expand(2, 2, 1, 1)
    details = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1)
    again = torch.cat([y_hat, torch.tensor([[10.0, 1], [20, 2], [10, 3], [20, 4]])[..., None, None]])
    assert [*consistency(y_hat, details, again, absent=1)] == [0, 0]


def test_with_everything_coded_there_is_no_detail_to_find_again() -> None:
    y_hat, details = torch.zeros(1, 2, 1, 1), torch.zeros(3, 0, 1, 1)
    found = consistency(y_hat, details, torch.ones(4, 2, 1, 1), absent=1)
    assert [*found] == [1, 0]
    assert math.isfinite(float(found.detail))


def test_without_samples_only_the_picture_itself_counts() -> None:
    y_hat = torch.zeros(2, 4, 1, 1)
    assert [*consistency(y_hat, torch.zeros(0, 2, 1, 1), y_hat + 2, absent=1)] == [4, 0]


def test_the_game_is_cross_entropy_on_logits() -> None:
    torch.manual_seed(0)
    real, full, sampled = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4), torch.randn(6, 1, 4, 4)
    entropy = F.binary_cross_entropy_with_logits
    assert torch.allclose(generator_loss(full), entropy(full, torch.ones_like(full)))
    expected = entropy(real, torch.ones_like(real))
    expected += 0.5 * (entropy(full, torch.zeros_like(full)) + entropy(sampled, torch.zeros_like(sampled)))
    assert torch.allclose(discriminator_loss(real, full, sampled, fake_weight=0.5), expected)
