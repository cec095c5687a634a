"""Pixels under integer laws: exact inverses, at the price that the law says, on every machine alike."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from lightning_modules.coding.ans import AnsStack
from lightning_modules.rec.files.logistic_code import MOST_SCALE, UNIT, IntegerLaw, _cumulative, pop_pixels, push_pixels
from lightning_modules.rec.models.pixel_likelihood import COUPLING_BITS, LOG_SCALE_BITS, PixelLaw


def plausible(count: int, seed: int = 0) -> tuple[np.ndarray, IntegerLaw]:
    """Values drawn near their means, and the law."""
    rng = np.random.default_rng(seed)
    mean = rng.integers(-2 * UNIT, 258 * UNIT, (3, count))
    log_scale = rng.integers(-20, 60, (3, count))
    spread = np.exp(log_scale / 2**LOG_SCALE_BITS)
    values = np.clip(np.rint(mean / UNIT + rng.logistic(size=mean.shape) * spread), 0, 255).astype(np.int64)
    return values, IntegerLaw(mean, log_scale, rng.integers(-90, 91, (3, count)))


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_pushed_is_popped_and_nothing_is_left(channels: int) -> None:
    values, law = plausible(500)
    stack = AnsStack()
    push_pixels(stack, values[:channels], law)
    assert np.array_equal(pop_pixels(stack, channels, law), values[:channels])
    assert stack.is_empty()


def test_the_price_is_that_of_the_float_law() -> None:
    values, law = plausible(4000)
    law = law._replace(coupling=None)
    stack = AnsStack()
    bits = push_pixels(stack, values, law)
    assert 8 * len(stack.to_bytes()) == pytest.approx(bits, abs=130)
    bounded = law.bounded()
    mean, log_scale = (torch.from_numpy(part).view(1, 3, -1, 1) for part in bounded[:2])
    expected = PixelLaw(mean / UNIT, log_scale / 2**LOG_SCALE_BITS).log_mass(
        torch.from_numpy(values).view(1, 3, -1, 1).double()
    )
    assert bits == pytest.approx(-float(expected.sum()) / np.log(2.0), rel=1e-4)


def test_couplings_move_means_as_in_the_float_law() -> None:
    values, law = plausible(1000)
    law = law.bounded()
    exact = np.stack([law.mean_of(channel, list(values[:channel])) for channel in range(3)])
    parts = [torch.from_numpy(part).view(1, 3, -1, 1).double() for part in law]
    float_law = PixelLaw(parts[0] / UNIT, parts[1], parts[2] / 2**COUPLING_BITS)
    expected = float_law.conditional_mean(torch.from_numpy(values).view(1, 3, -1, 1).double())
    assert np.abs(exact / UNIT - expected.view(3, -1).numpy()).max() < 2.5 / UNIT


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("mean", [-(1 << 40), 0, 255 * UNIT, 1 << 40])
@pytest.mark.parametrize("log_scale", [-(1 << 20), 1 << 20])
def test_laws_at_and_beyond_their_bounds_code_every_value(value: int, mean: int, log_scale: int) -> None:
    law = IntegerLaw(np.full((3, 2), mean), np.full((3, 2), log_scale), np.full((3, 2), 1 << 30))
    stack = AnsStack()
    bits = push_pixels(stack, np.full((3, 2), value, dtype=np.int64), law)
    assert bits <= 6 * 25
    assert np.array_equal(pop_pixels(stack, 3, law), np.full((3, 2), value))


def test_the_masses_are_these_integers_on_every_machine() -> None:
    assert [int(_cumulative(0)[k]) for k in (16384, 16384 + 64, 16384 - 64 * 20)] == CUMULATIVE
    assert zlib.crc32(_cumulative(MOST_SCALE).astype("<i4").tobytes()) == CHECKSUM


CUMULATIVE = [536862720, 784956194, 2]
CHECKSUM = 204672000
