"""Layouts: every dimension in one block, by integers alone, and of even KL where it is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_modules.rec.samplers.blocks import EXPECTED_KL_UNIT, Layout, blocks_by_kl, equal_blocks, permutation

VECTOR_ORDER = [8, 5, 6, 4, 7, 0, 1, 3, 9, 2]


def sizes(layout: Layout) -> list[int]:
    return torch.tensor(layout.starts).diff().tolist()


@pytest.mark.parametrize(
    ("count", "size", "expected"), [(0, 10, []), (1, 10, [1]), (20, 10, [10, 10]), (25, 10, [10, 10, 5])]
)
def test_equal_blocks_end_with_a_short_one(count: int, size: int, expected: list[int]) -> None:
    layout = equal_blocks(count, size, seed=3)
    assert sizes(layout) == expected
    assert layout.num_blocks == len(expected)


def test_joining_inverts_splitting() -> None:
    values = torch.randn(4, 5, 3)
    layout = equal_blocks(60, 17, seed=3)
    blocks = layout.split(values)
    assert [len(block) for block in blocks] == [17, 17, 17, 9]
    assert torch.equal(layout.join(blocks).view(4, 5, 3), values)


def test_a_permutation_is_that_of_the_format_and_depends_on_the_seed() -> None:
    assert permutation(10, 42).tolist() == VECTOR_ORDER
    assert sorted(permutation(1000, 7).tolist()) == list(range(1000))
    assert permutation(1000, 7).tolist() != permutation(1000, 8).tolist()


def test_blocks_by_kl_hold_what_they_should_and_put_dead_dimensions_together() -> None:
    generator = np.random.default_rng(0)
    nats = np.concatenate([generator.uniform(0.3, 0.5, 700), np.full(3000, 1e-4)])
    layout = blocks_by_kl((nats * EXPECTED_KL_UNIT).astype(np.int64), kl_per_block=40.0, block_size=2000, seed=1)
    assert sorted(layout.order.tolist()) == list(range(3700))
    blocks = [block.numpy() for block in layout.split(torch.from_numpy(nats))]
    assert max(len(block) for block in blocks) <= 2000
    assert all(block.sum() <= 40.0 + 1e-3 for block in blocks)
    lively = [block for block in blocks if block.mean() > 0.1]
    assert all(block.sum() > 38 for block in lively[1:-1])
    assert len(blocks) - len(lively) <= 2


def test_a_dimension_beyond_the_goal_gets_a_block_of_its_own() -> None:
    layout = blocks_by_kl(np.array([90, 1, 1, 90], dtype=np.int64) * EXPECTED_KL_UNIT, 40.0, 1000, seed=0)
    assert sorted(sizes(layout)) == [1, 1, 2]


def test_blocks_by_kl_of_nothing_are_none() -> None:
    assert blocks_by_kl(np.zeros(0, dtype=np.int64), 40.0, 1000, seed=0).num_blocks == 0
