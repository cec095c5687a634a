"""The Kodak set: 24 files, each known by its hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from datamodules.kodak import SHA256, Kodak, download
from lightning_modules.errors import CodingError


def settings(root: Path) -> dict[str, object]:
    numbers = {"crop": 8, "batch_size": 1, "steps_per_epoch": 1, "num_workers": 0, "seed": 0}
    return {"train": None, "val": root, "test": None, "input": None, "cache_dir": root / "cache", **numbers}


def test_the_set_is_24_pictures_numbered_from_1() -> None:
    assert list(SHA256) == [f"kodim{number:02}.png" for number in range(1, 25)]
    assert len({*SHA256.values()}) == 24


def test_the_hashes_are_those_of_the_real_files(kodak: list[Path]) -> None:
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in kodak} == SHA256


def test_missing_pictures_are_fetched_and_the_set_is_whole(kodak: list[Path], tmp_path: Path) -> None:
    (tmp_path / kodak[3].name).write_bytes(kodak[3].read_bytes())
    paths = download(tmp_path, url=kodak[0].parent.as_uri())
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in kodak]
    module = Kodak(root=tmp_path, **settings(tmp_path))
    module.prepare_data()  # nothing left to fetch
    assert [record.name for batch in module.test_dataloader() for record in batch] == list(SHA256)


def test_another_picture_under_the_name_of_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kodim01.png").write_bytes(b"recompressed")
    with pytest.raises(CodingError, match=r"kodim01\.png: is not the published file"):
        Kodak(root=tmp_path, **settings(tmp_path)).prepare_data()
