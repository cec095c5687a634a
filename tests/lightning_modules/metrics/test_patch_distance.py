"""Distances between sets of patches: which patches there are, and when their number is too small."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.errors import CodingError
from lightning_modules.metrics.patch_distance import PatchDistance, frechet, kernel, patches

NUM_FEATURES = 4


class Means(nn.Module):
    """Of the quarters of each patch: features whose distances are known in closed form."""

    num_features = NUM_FEATURES

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x.double().mean(1, keepdim=True), 2).flatten(1).float()


def test_patches_tile_from_the_corner_and_from_the_shift() -> None:
    x = torch.arange(3 * 20 * 15).reshape(1, 3, 20, 15)
    found = patches(x, size=6, shift=3)
    assert len(found) == 3 * 2 + 2 * 2  # 20 x 15, and 17 x 12 from (3, 3)
    assert torch.equal(found[3], x[0, :, 6:12, 6:12])
    assert torch.equal(found[6], x[0, :, 3:9, 3:9])
    assert torch.equal(found[-1], x[0, :, 9:15, 9:15])


@pytest.mark.parametrize(("size", "count"), [((298, 400), 0), ((299, 299), 1), ((447, 448), 1), ((448, 448), 2)])
def test_the_second_tiling_needs_both_sides_to_hold_the_shift_as_well(size: tuple[int, int], count: int) -> None:
    assert len(patches(torch.zeros(1, 3, *size), size=299, shift=149)) == count


def pictures(count: int, generator: torch.Generator) -> Tensor:
    return (torch.rand(count, 3, 8, 8, generator=generator) * 255).round() / 255


def test_the_frechet_distance_of_a_shift_of_all_features_is_its_square() -> None:
    """|m - m'|^2 where covariances are equal: 4 features, each 20 levels up."""
    distance = PatchDistance(partial(frechet, Means()), size=8, shift=4, least=10)
    distance.reset()
    x = pictures(200, torch.Generator().manual_seed(0)) * 200 / 255
    x = (x * 255).round() / 255
    for part in x.split(50):
        distance.update(part, part + 20 / 255)
    assert distance.compute() == pytest.approx(NUM_FEATURES * 20.0**2, rel=1e-3)
    distance.reset()
    distance.update(x, x)
    assert distance.compute() == pytest.approx(0.0, abs=1e-2)


def test_the_kernel_distance_is_near_0_for_equal_sets_and_rises_with_the_error() -> None:
    values = []
    for error in (0, 20, 40):
        distance = PatchDistance(partial(kernel, 50, 20, Means()), size=8, shift=4, least=50)
        distance.reset()
        x = (pictures(200, torch.Generator().manual_seed(1)) * 200).round() / 255
        distance.update(x, x + error / 255)
        torch.manual_seed(0)
        values.append(distance.compute())
    assert values[0] < 0.01 * values[1] < 0.01 * values[2]


def test_too_few_patches_are_not_a_number_and_the_reason_is_told() -> None:
    distance = PatchDistance(partial(frechet, Means()), size=8, shift=4, least=10)
    distance.reset()
    distance.update(torch.zeros(1, 3, 5, 5), torch.zeros(1, 3, 5, 5))
    distance.update(torch.zeros(9, 3, 8, 8), torch.zeros(9, 3, 8, 8))
    with pytest.warns(UserWarning, match="9 patches of 8x8 are too few for FrechetInceptionDistance, which needs 10"):
        assert math.isnan(distance.compute())


def test_without_weights_it_is_one_line(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch_fidelity", reason="an extra: pip install -e .[metrics]")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("lightning_modules.metrics.patch_distance.PUBLISHED_AT", "file:///nowhere")
    with pytest.raises(CodingError, match=r"weights-inception-2015-12-05-6726825d.pth: not in .* put it there from"):
        frechet()
