"""Whole pictures as records, shared among ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from datamodules.source_images import RankShare, read_source, source_loader
from lightning_modules.records import Failure, SourceImage


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("num_items", [0, 1, 2, 5, 24])
def test_ranks_cover_all_items_without_duplicate_or_gap(num_items: int, world_size: int) -> None:
    shares = [RankShare(num_items, rank, world_size) for rank in range(world_size)]
    assert sorted(index for share in shares for index in share) == list(range(num_items))
    assert [len(share) for share in shares] == [len(list(share)) for share in shares]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_is_the_record_and_a_bad_file_fails_alone(tmp_path: Path, num_workers: int) -> None:
    Image.new("RGB", (5, 3), (255, 0, 51)).save(tmp_path / "good.png")
    Image.new("LA", (2, 2), (9, 77)).save(tmp_path / "gray.png")
    (tmp_path / "bad.png").write_text("no picture")
    items = [(f"sub/{name}", tmp_path / name) for name in ("bad.png", "good.png", "gray.png")]
    bad, good, gray = source_loader(items, rank=0, world_size=1, num_workers=num_workers, batch_size=None)
    batches = list(source_loader(items, rank=0, world_size=1, num_workers=num_workers, batch_size=2))
    assert [[record.name for record in batch] for batch in batches] == [[bad.name, good.name], [gray.name]]
    assert isinstance(bad, Failure)
    assert bad.name == "sub/bad.png"
    assert bad.error.startswith("bad.png: ")
    assert isinstance(good, SourceImage)
    assert good.name == "sub/good.png"
    assert good.x.shape == (1, 3, 3, 5)
    assert good.x[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert good.format.alpha is None
    assert gray.format.gray
    assert torch.equal(gray.format.alpha, torch.full((2, 2), 77, dtype=torch.uint8))


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (0, 128, 255)).save(tmp_path / "dot.png")
    record = read_source(("dot.png", tmp_path / "dot.png"))
    assert isinstance(record, SourceImage)
    assert record.x.flatten().tolist() == pytest.approx([0.0, 128 / 255, 1.0])
