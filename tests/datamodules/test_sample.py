"""Photographs for a first try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules import sample
from datamodules.sample import NAMES, Sample, copy_sample, sample_images
from datamodules.source_images import read_source
from lightning_modules.errors import CodingError
from lightning_modules.records import SourceImage

SETTINGS: dict[str, Any] = {"crop": 32, "batch_size": 2, "steps_per_epoch": 2, "num_workers": 0, "seed": 0}


def test_the_photographs_are_installed_and_readable_without_network() -> None:
    records = [read_source(item) for item in sample_images()]
    pictures = [record for record in records if isinstance(record, SourceImage)]
    assert [picture.format.gray for picture in pictures] == [False, True, False, False, False]
    assert all(min(picture.x.shape[2:]) >= 256 for picture in pictures)


def test_every_use_has_them_unless_it_names_its_own(tmp_path: Path) -> None:
    names = [name for name, _ in sample_images()]
    module = Sample(**SETTINGS, cache_dir=tmp_path)
    assert [record.name for batch in module.test_dataloader() for record in batch] == names
    assert [record.name for batch in module.predict_dataloader() for record in batch] == names
    assert [batch.shape for batch in module.train_dataloader()] == [(2, 3, 32, 32)] * 2
    own = Sample(**SETTINGS, cache_dir=tmp_path, test=sample_images()[0][1])
    assert [record.name for batch in own.test_dataloader() for record in batch] == names[:1]


def test_an_incomplete_installation_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "NAMES", ("astronaut.png", "not_there.png"))
    with pytest.raises(CodingError, match="pip install"):
        sample_images()


def test_copies_hold_the_pixels_and_nothing_else(tmp_path: Path) -> None:
    folder = copy_sample(tmp_path / "originals")
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{Path(name).stem}.png" for name in NAMES)
    for _, path in sample_images():
        with Image.open(path) as original, Image.open(folder / f"{path.stem}.png") as copy:
            assert copy.mode == original.mode
            assert copy.tobytes() == original.tobytes()
            assert "icc_profile" not in copy.info
