"""Swin blocks against attention written out token by token, and how grids change their size."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.sic.swin import (
    PatchMerge,
    PatchUnmerge,
    SwinBlock,
    from_windows,
    relative_positions,
    swin_blocks,
    to_windows,
)


def block(shift: int, width: int = 8, heads: int = 2) -> SwinBlock:
    torch.manual_seed(shift)
    made = SwinBlock(width, heads, shift).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return made


def region(position: int, length: int) -> int:
    return 0 if position < length - 8 else 1 if position < length - 4 else 2


def attention_by_definition(layer: SwinBlock, normed: Tensor, shift: int) -> Tensor:
    """One picture, (H, W, d) -> (H, W, d): every query against every key of its window, one by one."""
    height, width, channels = normed.shape
    tall, wide = 8 * math.ceil(height / 8), 8 * math.ceil(width / 8)
    padded = torch.zeros(tall, wide, channels, dtype=normed.dtype)
    padded[:height, :width] = normed
    attention, heads = layer.attn, layer.attn.heads
    per_head = channels // heads
    moved = {(i, j): padded[(i + shift) % tall, (j + shift) % wide] for i in range(tall) for j in range(wide)}
    projected = {place: F.linear(token, attention.qkv.weight, attention.qkv.bias) for place, token in moved.items()}
    result = torch.zeros_like(padded)
    for i, j in moved:
        keys = list(itertools.product(range(i // 8 * 8, i // 8 * 8 + 8), range(j // 8 * 8, j // 8 * 8 + 8)))
        parts = []
        for head in range(heads):
            span = slice(head * per_head, (head + 1) * per_head)
            query = projected[i, j][:channels][span] * per_head**-0.5
            logits = []
            for k, m in keys:
                bias = attention.relative_position_bias_table[(i - k + 7) * 15 + (j - m + 7), head]
                apart = shift and (region(i, tall), region(j, wide)) != (region(k, tall), region(m, wide))
                key = projected[k, m][channels : 2 * channels][span]
                logits.append(query @ key + bias - (100 if apart else 0))
            weights = torch.stack(logits).softmax(0)
            parts.append(weights @ torch.stack([projected[place][2 * channels :][span] for place in keys]))
        out = F.linear(torch.cat(parts), attention.proj.weight, attention.proj.bias)
        result[(i + shift) % tall, (j + shift) % wide] = out
    return result[:height, :width]


@pytest.mark.parametrize(("shift", "size"), [(0, (9, 5)), (4, (4, 4)), (4, (8, 8)), (4, (16, 12))])
def test_a_block_is_its_definition_on_every_grid(shift: int, size: tuple[int, int]) -> None:
    """Also below and at one window: padded, moved and masked all the same."""
    layer = block(shift)
    grid = torch.randn(1, *size, 8, dtype=torch.float64)
    with torch.no_grad():
        normed = F.layer_norm(grid[0], (8,), layer.norm1.weight, layer.norm1.bias, 1e-5)
        inner = grid[0] + attention_by_definition(layer, normed, shift)
        hidden = F.linear(F.layer_norm(inner, (8,), layer.norm2.weight, layer.norm2.bias, 1e-5), layer.mlp.fc1.weight)
        hidden = hidden + layer.mlp.fc1.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        expected = inner + F.linear(hidden, layer.mlp.fc2.weight, layer.mlp.fc2.bias)
        assert torch.allclose(layer(grid)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shift", [0, 4])
def test_pictures_of_a_batch_do_not_see_each_other(shift: int) -> None:
    grids = torch.randn(3, 16, 24, 8, dtype=torch.float64)
    with torch.no_grad():
        alone = torch.cat([block(shift)(grid[None]) for grid in grids])
        assert torch.allclose(block(shift)(grids), alone, rtol=0, atol=1e-13)


def test_every_second_block_looks_through_moved_windows() -> None:
    assert [layer.shift for layer in swin_blocks(8, 2, 5)] == [0, 4, 0, 4, 0]


def test_windows_are_taken_apart_and_put_together_again() -> None:
    grid = torch.arange(2 * 16 * 24 * 3).reshape(2, 16, 24, 3)
    windows = to_windows(grid)
    assert windows.shape == (12, 64, 3)
    assert torch.equal(windows[1].reshape(8, 8, 3), grid[0, :8, 8:16])
    assert torch.equal(from_windows(windows, 16, 24), grid)


def test_the_bias_table_has_a_row_for_each_relative_position() -> None:
    index = relative_positions()
    assert index.shape == (64, 64)
    assert torch.equal(index.unique(), torch.arange(225))
    assert int(index[8 * 3 + 1, 8 * 5 + 6]) == (3 - 5 + 7) * 15 + (1 - 6 + 7)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        SwinBlock(8, 3, 0)


def test_a_merge_puts_neighbours_side_by_side_column_after_column() -> None:
    merge = PatchMerge(2, 8)
    torch.nn.init.eye_(merge.reduction.weight)
    grid = torch.randn(1, 4, 6, 2)
    order = [grid[:, 0::2, 0::2], grid[:, 1::2, 0::2], grid[:, 0::2, 1::2], grid[:, 1::2, 1::2]]
    assert torch.allclose(merge(grid), F.layer_norm(torch.cat(order, -1), (8,)), atol=1e-6)
    assert merge.reduction.bias is None


def test_an_unmerge_is_the_pixel_shuffle_of_torch() -> None:
    unmerge = PatchUnmerge(8, 2)
    torch.nn.init.eye_(unmerge.increment.weight)
    grid = torch.randn(2, 3, 5, 8)
    shuffled = F.pixel_shuffle(grid.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    assert torch.allclose(unmerge(grid), F.layer_norm(shuffled, (2,)), atol=1e-6)
    assert unmerge.increment.bias is None
