"""Sizes after strided transforms, continuing pictures to a multiple, and cropping back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.image_padding import ceil_div, crop, pad_to_multiple

SIDES = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("size", "stride", "expected"),
    [
        ((1, 1), 64, (1, 1)),
        ((16, 17), 16, (1, 2)),
        ((512, 768), 16, (32, 48)),
        ((500, 333), 16, (32, 21)),
        ((500, 333), 64, (8, 6)),
        ((1200, 1200), 64, (19, 19)),
    ],
)
def test_sizes_of_latents(size: tuple[int, int], stride: int, expected: tuple[int, int]) -> None:
    assert ceil_div(size, stride) == expected


@given(SIDES, SIDES, st.integers(0, 6))
def test_halving_step_by_step_rounds_like_one_division(height: int, width: int, steps: int) -> None:
    size = (height, width)
    for _ in range(steps):
        size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    assert ceil_div((height, width), 2**steps) == size


def test_a_strided_convolution_has_that_size() -> None:
    layer = torch.nn.Conv2d(1, 1, 5, 2, padding=2)
    for size in ((1, 1), (2, 3), (17, 16)):
        assert layer(torch.zeros(1, 1, *size)).shape[-2:] == ceil_div(size, 2)


def test_cropping_keeps_the_top_left() -> None:
    value = torch.arange(30).reshape(1, 1, 5, 6)
    assert crop(value, (2, 3)).tolist() == [[[[0, 1, 2], [6, 7, 8]]]]
    assert torch.equal(crop(value, (5, 6)), value)


@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
def test_cropping_to_more_than_there_is_names_both_sizes(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"\(5, 6\) to \({size[0]}, {size[1]}\)"):
        crop(torch.zeros(1, 1, 5, 6), size)


@pytest.mark.parametrize(("size", "expected"), [((1, 1), (64, 64)), ((64, 128), (64, 128)), ((65, 63), (128, 64))])
def test_a_picture_is_continued_by_its_last_row_and_column(size: tuple[int, int], expected: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    padded = pad_to_multiple(x, 64)
    assert padded.shape == (2, 3, *expected)
    assert torch.equal(crop(padded, size), x)
    rows, columns = (torch.arange(side).clamp(max=last - 1) for side, last in zip(expected, size, strict=True))
    assert torch.equal(padded, x[:, :, rows][:, :, :, columns])
