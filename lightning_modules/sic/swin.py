"""Swin blocks on grids of tokens of any size (Liu et al. 2021, in the form that SIC uses it).

A grid is (B, H, W, d): channels last. Windows are 8x8; every second block looks through windows moved by half of one.
Nothing here remembers a resolution: padding and masks follow from the grid at hand.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW = 8
SHIFT = WINDOW // 2
TOKENS = WINDOW * WINDOW
MLP_RATIO = 4
SEPARATION = -100.0
"""Added to the logit of two tokens that share a moved window, but lie on opposite sides of the picture."""


def to_windows(grid: Tensor) -> Tensor:
    """Split (B, H, W, d), H and W multiples of 8, into (B * H/8 * W/8, 64, d): pictures outermost, then rows."""
    batch, height, width, channels = grid.shape
    blocks = grid.reshape(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return blocks.transpose(2, 3).reshape(-1, TOKENS, channels)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Invert `to_windows`."""
    channels = windows.shape[-1]
    blocks = windows.reshape(-1, height // WINDOW, width // WINDOW, WINDOW, WINDOW, channels)
    return blocks.transpose(2, 3).reshape(-1, height, width, channels)


def pad_to_windows(grid: Tensor) -> Tensor:
    """Pad with zeros below and right to multiples of 8. They count as tokens: the authors' models expect it."""
    height, width = grid.shape[1:3]
    return F.pad(grid, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))


def relative_positions() -> Tensor:
    """Return (64, 64) rows of the bias table: (i - k + 7) * 15 + (j - l + 7) for a query (i, j) and a key (k, l)."""
    row, column = torch.arange(TOKENS) // WINDOW, torch.arange(TOKENS) % WINDOW
    down = row[:, None] - row + WINDOW - 1
    right = column[:, None] - column + WINDOW - 1
    return down * (2 * WINDOW - 1) + right


def shift_mask(height: int, width: int, like: Tensor) -> Tensor:
    """Return (windows, 64, 64): `SEPARATION` between tokens that moving by 4 brought together across borders, else 0.

    height, width: of the padded grid. like: gives device and dtype.
    """
    rows, columns = (_regions(length, like.device) for length in (height, width))
    region = (3 * rows[:, None] + columns)[None, :, :, None]
    windows = to_windows(region).squeeze(-1)
    return (windows[:, :, None] != windows[:, None, :]).to(like.dtype) * SEPARATION


def _regions(length: int, device: torch.device) -> Tensor:
    """Return (length,): 0, and 1 and 2 for the two halves of the last window."""
    position = torch.arange(length, device=device)
    return (position >= length - WINDOW).long() + (position >= length - SHIFT).long()


class WindowAttention(nn.Module):
    """Softmax attention of `heads` heads within windows, with a learned bias for each relative position and head."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.register_buffer("relative_position_index", relative_positions(), persistent=False)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, mask: Tensor) -> Tensor:
        """Attend within windows (B * n, 64, d). mask: (n, 64, 64), or (1, 64, 64) for all, added to the logits."""
        count, tokens, width = windows.shape
        q, k, v = self.qkv(windows).reshape(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        logits = (bias + mask[:, None]).to(q.dtype)
        logits = logits.expand(count // len(mask), *logits.shape).reshape(count, *bias.shape)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=logits)
        return self.proj(attended.transpose(1, 2).reshape(count, tokens, width))


class Mlp(nn.Module):
    """Two layers with the exact GELU between; four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class SwinBlock(nn.Module):
    """u = t + Attention(LN(t)); out = u + MLP(LN(u)). shift: 0, or 4 to look through moved windows.

    A grid smaller than a window is padded and, if `shift` says so, moved all the same: the authors' models were
    trained so, unlike the original Swin.
    """

    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, grid: Tensor) -> Tensor:
        grid = grid + self.attend(self.norm1(grid))
        return grid + self.mlp(self.norm2(grid))

    def attend(self, grid: Tensor) -> Tensor:
        """Attend within the windows of a grid of any size."""
        padded = pad_to_windows(grid)
        height, width = padded.shape[1:3]
        moved = torch.roll(padded, (-self.shift, -self.shift), (1, 2))
        mask = shift_mask(height, width, padded) if self.shift else padded.new_zeros(1, TOKENS, TOKENS)
        attended = from_windows(self.attn(to_windows(moved), mask), height, width)
        back = torch.roll(attended, (self.shift, self.shift), (1, 2))
        return back[:, : grid.shape[1], : grid.shape[2]]


def swin_blocks(width: int, heads: int, depth: int) -> nn.ModuleList:
    """Build `depth` blocks, every second one shifted."""
    return nn.ModuleList(SwinBlock(width, heads, SHIFT * (index % 2)) for index in range(depth))


class PatchMerge(nn.Module):
    """(B, H, W, d), even sides -> (B, H/2, W/2, wide): four neighbours side by side, LayerNorm, linear."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, wide, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, grid: Tensor) -> Tensor:
        """Merge neighbours in the order (row, column): even even, odd even, even odd, odd odd."""
        neighbours = [grid[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(neighbours, dim=-1)))


class PatchUnmerge(nn.Module):
    """(B, H, W, d), d a multiple of 4 -> (B, 2H, 2W, narrow): pixel shuffle, LayerNorm, linear."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.increment = nn.Linear(width // 4, narrow, bias=False)
        self.norm = nn.LayerNorm(width // 4)

    def forward(self, grid: Tensor) -> Tensor:
        """Spread channels: output channel c of the neighbour in row i, column j is input channel 4c + 2i + j."""
        batch, height, width, channels = grid.shape
        split = grid.reshape(batch, height, width, channels // 4, 2, 2).permute(0, 1, 4, 2, 5, 3)
        spread = split.reshape(batch, 2 * height, 2 * width, channels // 4)
        return self.increment(self.norm(spread))
