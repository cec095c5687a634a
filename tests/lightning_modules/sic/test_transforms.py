"""The two Swin transforms as chains of their parts, in the order of the paper's figure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.sic.swin import PatchMerge, PatchUnmerge
from lightning_modules.sic.transforms import SwinAnalysis, SwinSynthesis

WIDTHS, DEPTHS, HEADS = [8, 12, 16], [1, 2, 3], 4


def through(grid: Tensor, stage: torch.nn.Module) -> Tensor:
    for block in stage.get_submodule("blocks").children():
        grid = block(grid)
    return grid


def test_ga_embeds_then_merges_before_the_blocks_of_each_stage_but_the_first() -> None:
    torch.manual_seed(0)
    ga = SwinAnalysis(WIDTHS, DEPTHS, HEADS)
    x = torch.rand(2, 3, 32, 48)
    embedding = ga.patch_embed
    grid = F.conv2d(x, embedding.proj.weight, embedding.proj.bias, stride=2).permute(0, 2, 3, 1)
    grid = F.layer_norm(grid, (8,), embedding.norm.weight, embedding.norm.bias)
    for number, stage in enumerate(ga.layers):
        if number:
            assert isinstance(stage.downsample, PatchMerge)
            grid = stage.get_submodule("downsample")(grid)
        grid = through(grid, stage)
    expected = F.layer_norm(grid, (16,), ga.norm.weight, ga.norm.bias).permute(0, 3, 1, 2)
    assert ga(x).shape == (2, 16, 4, 6)
    assert torch.allclose(ga(x), expected, atol=1e-6)


def test_gs_unmerges_after_the_blocks_of_each_stage_and_ends_with_a_convolution() -> None:
    torch.manual_seed(0)
    gs = SwinSynthesis(WIDTHS[::-1], DEPTHS[::-1], HEADS)
    y_hat = torch.randn(2, 16, 4, 6)
    grid = y_hat.permute(0, 2, 3, 1)
    for stage in gs.layers:
        assert isinstance(stage.upsample, PatchUnmerge)
        grid = stage.get_submodule("upsample")(through(grid, stage))
    expected = F.conv2d(grid.permute(0, 3, 1, 2), gs.outconv.weight, gs.outconv.bias, padding=1)
    assert gs(y_hat).shape == (2, 3, 32, 48)
    assert torch.allclose(gs(y_hat), expected, atol=1e-6)


def test_both_have_the_depths_they_are_given() -> None:
    ga, gs = SwinAnalysis(WIDTHS, DEPTHS, HEADS), SwinSynthesis(WIDTHS[::-1], DEPTHS[::-1], HEADS)
    assert [len(stage.get_submodule("blocks")) for stage in ga.layers] == [1, 2, 3]  # type: ignore[arg-type]
    assert [len(stage.get_submodule("blocks")) for stage in gs.layers] == [3, 2, 1]  # type: ignore[arg-type]
