"""A map of bits has all bits of a picture, where they belong."""

from __future__ import annotations

import pytest
import torch

from callbacks.rate_map import coloured, rate_map


@pytest.mark.parametrize("size", [(64, 128), (65, 100), (1, 1), (17, 300), (512, 768)])
def test_the_map_sums_to_the_bits_of_all_latents(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    bits = {
        name: torch.rand(1, channels, -(-size[0] // stride), -(-size[1] // stride))
        for name, channels, stride in (("y", 5, 16), ("z", 3, 64), ("z0", 2, 1))
    }
    total = sum(float(value.sum()) for value in bits.values())
    assert tuple(rate_map(bits, size).shape) == size
    assert float(rate_map(bits, size).sum()) == pytest.approx(total, rel=1e-5)


def test_bits_of_an_element_lie_above_its_own_pixels() -> None:
    bits = torch.zeros(1, 2, 2, 3)
    bits[0, 1, 1, 2] = 4.0
    found = rate_map({"y": bits}, (20, 40))
    assert found[16:, 32:].unique().tolist() == [4.0 / (4 * 8)]
    assert float(found[16:, 32:].sum()) == float(found.sum())


def test_colours_run_from_black_to_the_brightest_at_the_largest_value() -> None:
    shown = coloured(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 2.0)
    assert shown.dtype == torch.uint8
    assert shown.shape == (3, 1, 4)
    brightness = shown.float().mean(0)[0].tolist()
    assert brightness == sorted(brightness)
    assert torch.equal(shown[..., 2], shown[..., 3])


def test_a_picture_without_bits_is_black() -> None:
    assert int(coloured(torch.zeros(2, 2), 0.0).max()) <= 4
