"""Detail is a function of seed, sample, channel and position alone, under the law of training; readings are checked."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf
from scipy.stats import chisquare

from lightning_modules.coding.shared_randomness import philox4x32
from lightning_modules.errors import CodingError
from lightning_modules.sic.decoding_options import Address, Reading, draws, least_detail, random_detail
from tests.harness.command_line import REPOSITORY


def test_a_draw_is_the_generators_word_of_its_place() -> None:
    drawn = draws(Address(seed=0xDEADBEEF, sample=3, channel=5), (2, 3, 7))
    for channel, row, column in [(0, 0, 0), (0, 2, 6), (1, 1, 4)]:
        position = 7 * row + column
        words = philox4x32((position // 4, 5 + channel, 3, 0), (0xDEADBEEF, 0))
        assert float(drawn[channel, row, column]) == words[position % 4] / 2**32


def test_a_draw_does_not_depend_on_which_others_are_made() -> None:
    all_channels = draws(Address(1, 0, 0), (8, 4, 5))
    assert torch.equal(draws(Address(1, 0, 6), (2, 4, 5)), all_channels[6:])


def test_seeds_and_samples_differ() -> None:
    found = [draws(Address(seed, sample, 0), (4, 8, 8)) for seed in (0, 1) for sample in (0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])


def test_random_detail_lies_within_reach_of_its_mean_with_the_law_of_training() -> None:
    """Centre n + f: n, n + 1 and n - 1 have a quarter each, n + 2 (1/2 + f) / 4, n - 2 (1/2 - f) / 4."""
    f, shape = 0.25, (64, 16, 16)
    detail = random_detail(torch.full(shape, 3 + f, dtype=torch.float64), Address(7, 0, 0), 2.0).flatten()
    counts = [int((detail == 3 + k).sum()) for k in range(-2, 3)]
    expected = [(0.5 - f) / 4, 0.25, 0.25, 0.25, (0.5 + f) / 4]
    assert sum(counts) == detail.numel()
    assert chisquare(counts, [p * detail.numel() for p in expected]).pvalue > 1e-3


def test_least_detail_is_the_nearest_integer() -> None:
    means = torch.tensor([[[-1.25, 0.5, 2.75]]], dtype=torch.float64)
    assert least_detail(means, Address(0, 0, 0), 2.0).flatten().tolist() == [-1.0, 0.0, 3.0]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"level": 0}, "sic.level=0"),
        ({"samples": 0}, "sic.samples=0"),
        ({"samples": 2, "detail": "mean"}, "sic.samples=2"),
        ({"detail": "median"}, "sic.detail=median: allowed are random and mean"),
        ({"seed": 1 << 32}, "sic.seed=4294967296"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(values: dict[str, object], line: str) -> None:
    with pytest.raises(CodingError, match=line):
        Reading(**values)  # type: ignore[arg-type]


def test_detail_is_drawn_as_far_as_in_training() -> None:
    objective = OmegaConf.load(REPOSITORY / "conf" / "objective" / "sic.yaml")
    chosen = OmegaConf.load(REPOSITORY / "conf" / "decoding" / "sic.yaml")
    assert chosen.sic.reach == objective.detail_reach == Reading().reach
