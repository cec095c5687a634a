"""The two Swin transforms of SIC: pictures to latents and back, each stage a factor of 2 in both directions.

    x --ga--> y    embedding, then for each stage: merge (but for the first), blocks; LayerNorm
    y_hat --gs--> x_hat    for each stage: blocks, unmerge; convolution

Parameters have the names of the authors' checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from lightning_modules.sic.swin import PatchMerge, PatchUnmerge, swin_blocks

IMAGE_CHANNELS = 3


class PatchEmbedding(nn.Module):
    """The embedding (B, 3, H, W) -> grid (B, H/2, W/2, width): 2x2 patches, LayerNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(IMAGE_CHANNELS, width, 2, 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class AnalysisStage(nn.Module):
    """An entry (merge, or nothing in the first stage), then blocks."""

    def __init__(self, entry: nn.Module, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.downsample = entry
        self.blocks = swin_blocks(width, heads, depth)

    def forward(self, grid: Tensor) -> Tensor:
        grid = self.downsample(grid)
        for block in self.blocks:
            grid = block(grid)
        return grid


class SynthesisStage(nn.Module):
    """Blocks, then an unmerge to twice the sides."""

    def __init__(self, width: int, narrow: int, heads: int, depth: int) -> None:
        super().__init__()
        self.blocks = swin_blocks(width, heads, depth)
        self.upsample = PatchUnmerge(width, narrow)

    def forward(self, grid: Tensor) -> Tensor:
        for block in self.blocks:
            grid = block(grid)
        return self.upsample(grid)


class SwinAnalysis(nn.Module):
    """ga: (B, 3, H, W), sides multiples of the stride -> y (B, widths[-1], H/stride, W/stride), stride 2^stages.

    y leaves a LayerNorm: over its channels it has unit variance, times a learned gain.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], heads: int) -> None:
        super().__init__()
        entries = [nn.Identity(), *(PatchMerge(*pair) for pair in pairwise(widths))]
        self.patch_embed = PatchEmbedding(widths[0])
        self.layers = nn.ModuleList(
            AnalysisStage(entry, width, heads, depth)
            for entry, width, depth in zip(entries, widths, depths, strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1])
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:
        grid = self.patch_embed(x)
        for stage in self.layers:
            grid = stage(grid)
        return self.norm(grid).permute(0, 3, 1, 2).contiguous()


class SwinSynthesis(nn.Module):
    """gs: (B, widths[0], h, w) -> (B, 3, h stride, w stride), not clamped."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], heads: int) -> None:
        super().__init__()
        narrower = [*widths[1:], widths[-1]]
        self.layers = nn.ModuleList(
            SynthesisStage(width, narrow, heads, depth)
            for width, narrow, depth in zip(widths, narrower, depths, strict=True)
        )
        self.outconv = nn.Conv2d(widths[-1], IMAGE_CHANNELS, 3, padding=1)
        self.apply(initialize)

    def forward(self, y_hat: Tensor) -> Tensor:
        grid = y_hat.permute(0, 2, 3, 1)
        for stage in self.layers:
            grid = stage(grid)
        return self.outconv(grid.permute(0, 3, 1, 2))


def initialize(layer: nn.Module) -> None:
    """Draw linear layers from N(0, 0.02^2), biases 0; the rest keeps PyTorch's default."""
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
