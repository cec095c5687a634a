"""Bits-back on a stack: what is popped under q comes back, bit for bit, and costs what the tables say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.coding import bits_back
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.bits_back import TooFewBits, bytes_of, pop, push, seeded_bytes, stack_of, take
from lightning_modules.coding.leaky import GaussianRows, Grid, bits
from lightning_modules.errors import DamagedFile

GRID = Grid(0.25, 64)


def gaussians(count: int, seed: int) -> GaussianRows:
    generator = np.random.default_rng(seed)
    return GaussianRows(GRID, 3 * generator.normal(size=count), np.exp(generator.normal(size=count) - 1))


@settings(deadline=None, max_examples=40)
@given(data=st.binary(min_size=400, max_size=900), seed=st.integers(0, 1000), count=st.integers(0, 100))
def test_popping_and_pushing_give_back_any_initial_bits(data: bytes, seed: int, count: int) -> None:
    data = data[: len(data) // 4 * 4]
    stack, rows = stack_of(data), gaussians(count, seed)
    entries = pop(stack, rows)
    push(stack, entries, rows)
    assert bytes_of(stack) == data


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), latents=st.integers(1, 400), symbols=st.integers(1, 400))
def test_a_receiver_finds_symbols_latents_and_the_initial_stack(seed: int, latents: int, symbols: int) -> None:
    q, prior = gaussians(latents, seed), gaussians(latents, seed + 1)
    likelihood = gaussians(symbols, seed + 2)
    x = np.random.default_rng(seed).integers(0, likelihood.width, symbols).astype(np.int32)
    stack = stack_of(seeded_bytes(bits_back.most_words(latents)))
    before, length = stack.to_bytes(), stack.bits
    z = pop(stack, q)
    push(stack, x, likelihood)
    push(stack, z, prior)
    net = bits(x, likelihood) + bits(z, prior) - bits(z, q)
    assert stack.bits - length == pytest.approx(net, rel=1e-3, abs=1)
    received = AnsStack.from_bytes(stack.to_bytes())
    assert np.array_equal(take(received, prior), z)
    assert np.array_equal(take(received, likelihood), x)
    push(received, z, q)
    assert received.to_bytes() == before
    bits_back.expect_seeded(received)


def test_a_latent_drawn_from_random_bits_has_the_distribution_it_is_popped_under() -> None:
    rows = GaussianRows(Grid(0.25, 64), np.full(20_000, 1.1), np.full(20_000, 0.7))
    z = (pop(stack_of(seeded_bytes(20_000)), rows) - 64) * 0.25
    assert z.mean() == pytest.approx(1.1, abs=0.02)
    assert z.std() == pytest.approx((0.7**2 + 0.25**2 / 12) ** 0.5, abs=0.02)


def test_too_few_initial_bits_are_one_line_with_a_remedy() -> None:
    with pytest.raises(TooFewBits, match=r"too few initial bits: .* give a longer coder\.payload=") as caught:
        pop(stack_of(seeded_bytes(3)), gaussians(400, 0))
    assert "\n" not in str(caught.value)


def test_words_below_those_that_pops_reach_make_no_difference() -> None:
    rows = gaussians(300, 5)
    long, short = stack_of(seeded_bytes(4000)), stack_of(seeded_bytes(bits_back.most_words(300)))
    assert np.array_equal(pop(long, rows), pop(short, rows))


def test_as_many_words_as_is_promised_are_enough_for_the_worst_bits() -> None:
    rows = GaussianRows(Grid(0.25, 64), np.full(500, -60.0), np.full(500, 0.01))
    pop(stack_of(b"\xff" * 4 * bits_back.most_words(500)), rows)


def test_a_changed_stack_does_not_pass_for_the_seeded_one() -> None:
    data = bytearray(stack_of(seeded_bytes(40)).to_bytes())
    for position in (0, 77, len(data) - 8, len(data) - 1):
        changed = bytearray(data)
        changed[position] ^= 4
        with pytest.raises(DamagedFile, match="initial bits"):
            bits_back.expect_seeded(AnsStack.from_bytes(bytes(changed)))


def test_seeded_bytes_are_the_same_for_ever() -> None:
    assert seeded_bytes(4).hex() == "f571516c868fa8be97fe106b54b50139"
    assert seeded_bytes(9)[:16] == seeded_bytes(4)


def test_a_receiver_of_a_cut_stack_is_told_that_it_is_damaged() -> None:
    with pytest.raises(DamagedFile, match="end before the last symbol"):
        take(stack_of(seeded_bytes(3)), gaussians(400, 0))
