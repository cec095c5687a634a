"""Weights of others, fetched from a folder in place of the network into the places where the code looks for them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from compressai.zoo import image as zoo

from lightning_modules.checkpoints.checkpoint import fetch_compressai
from lightning_modules.checkpoints.weight_catalogue import USES, WeightCatalogue, declared_sizes
from lightning_modules.errors import CodingError
from lightning_modules.metrics import lpips
from lightning_modules.metrics.lpips import published_weights
from tests.harness.command_line import refuse


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PyTorch's cache, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file for SqueezeNet and one of the zoo, each named by the hash of what it holds."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    names = []
    for stem, suffix in (("squeezenet1_1", "pth"), ("mbt2018-mean-3", "pth.tar")):
        torch.save({"features.0.weight": torch.ones(2)}, folder / "file")
        digest = hashlib.sha256((folder / "file").read_bytes()).hexdigest()
        names.append((folder / "file").rename(folder / f"{stem}-{digest[:8]}.{suffix}").name)
    monkeypatch.setitem(lpips.TRUNKS, "squeeze", names[0])
    urls = {"mse": {3: f"https://publisher.example/{names[1]}", 4: "https://publisher.example/mbt2018-mean-4-0a.tar"}}
    monkeypatch.setattr(zoo, "model_urls", {"mbt2018-mean": urls})
    return folder


def catalogue(tmp_path: Path, mirror: Path) -> WeightCatalogue:
    return WeightCatalogue(tmp_path / "cache", ["mbt2018-mean"], mirror.as_uri())


def test_what_is_fetched_lies_where_metrics_look_for_it(home: Path, mirror: Path, tmp_path: Path) -> None:
    (line,) = catalogue(tmp_path, mirror).fetch(["lpips_squeeze"])
    name = lpips.TRUNKS["squeeze"]
    path, digest = home / name, hashlib.sha256((mirror / name).read_bytes()).hexdigest()
    assert line == f"lpips_squeeze: {path}, {path.stat().st_size:,} bytes, fetched, SHA-256 {digest}"
    assert published_weights(name, "file:///nowhere").keys() == {"features.0.weight"}


def test_what_is_fetched_of_the_zoo_lies_where_checkpoints_are_looked_for(
    home: Path, mirror: Path, tmp_path: Path
) -> None:
    list(catalogue(tmp_path, mirror).fetch(["compressai:mbt2018-mean/3"]))
    path = fetch_compressai("mbt2018-mean/3", tmp_path / "cache" / "compressai")
    assert path.read_bytes() == (mirror / path.name).read_bytes()


def test_a_file_that_is_there_is_not_fetched_again(home: Path, mirror: Path, tmp_path: Path) -> None:
    asked = ["lpips_squeeze", "compressai:mbt2018-mean/3"]
    list(catalogue(tmp_path, mirror).fetch(asked))
    for path in mirror.iterdir():
        path.unlink()
    assert [", already there, " in line for line in catalogue(tmp_path, mirror).fetch(asked)] == [True, True]


def test_a_damaged_file_in_the_cache_is_told_and_not_replaced(home: Path, mirror: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    path = home / lpips.TRUNKS["squeeze"]
    path.write_bytes(b"half of it")
    with pytest.raises(CodingError, match=rf"{path}: damaged, its SHA-256 does not begin with .*; delete it"):
        list(catalogue(tmp_path, mirror).fetch(["lpips_squeeze"]))
    assert path.read_bytes() == b"half of it"


def test_a_download_with_another_hash_is_refused_and_leaves_nothing(home: Path, mirror: Path, tmp_path: Path) -> None:
    (mirror / lpips.TRUNKS["squeeze"]).write_bytes(b"something else")
    with pytest.raises(CodingError, match="invalid hash value"):
        list(catalogue(tmp_path, mirror).fetch(["lpips_squeeze"]))
    assert list(home.iterdir()) == []


def test_what_cannot_be_had_does_not_keep_the_rest_from_being_fetched(home: Path, mirror: Path, tmp_path: Path) -> None:
    fetching = catalogue(tmp_path, mirror).fetch(["lpips_alex", "lpips_squeeze", "dists"])
    assert next(fetching).startswith("lpips_squeeze: ")
    with pytest.raises(CodingError) as refusal:
        next(fetching)
    for name in ("alexnet-owt-7be5be79.pth", "vgg16-397923af.pth"):
        assert f"put it there from {mirror.as_uri()}/{name}, as {home / name}" in str(refusal.value)


def test_an_unknown_name_is_refused_before_anything_is_fetched(home: Path, mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(CodingError, match="weights=lpips: not in the catalogue; give lpips_alex, lpips_vgg"):
        list(catalogue(tmp_path, mirror).fetch(["lpips_squeeze", "lpips"]))
    with pytest.raises(CodingError, match="not in CompressAI's zoo"):
        list(catalogue(tmp_path, mirror).fetch(["compressai:mbt2018-mean/9"]))
    assert not home.exists()


def test_the_list_tells_what_is_in_the_cache_and_how_large_it_is(home: Path, mirror: Path, tmp_path: Path) -> None:
    before = list(catalogue(tmp_path, mirror).listing())
    assert [line.split()[0] for line in before] == [*USES, "compressai:mbt2018-mean/3"]
    assert sum("not in the cache" in line for line in before) == len(USES)
    list(catalogue(tmp_path, mirror).fetch(["lpips_squeeze", "compressai:mbt2018-mean/3"]))
    after = {line.split()[0]: line for line in catalogue(tmp_path, mirror).listing()}
    assert str(home / lpips.TRUNKS["squeeze"]) in after["lpips_squeeze"]
    assert "1 of 2 in" in after["compressai:mbt2018-mean/3"]


def test_declared_sizes_are_those_of_the_files_in_the_catalogue() -> None:
    assert declared_sizes().keys() == set(lpips.TRUNKS.values())


def test_every_file_of_the_catalogue_has_a_hash_in_its_name(tmp_path: Path) -> None:
    real = WeightCatalogue(tmp_path, ["mbt2018-mean", "bmshj2018-hyperprior"])
    names = [*USES, *(f"{name}/{quality}" for name, qualities in real._ladders() for quality in qualities)]
    assert len(names) == len(USES) + 32
    assert all(len(real.file(name).digest) >= 8 for name in names)


def test_the_command_line_says_in_one_line_what_to_put_where(tmp_path: Path) -> None:
    nowhere = "task.catalogue.mirror=file:///nowhere"
    line = refuse("task=fetch", f"paths.cache_dir={tmp_path}", nowhere, "weights=[compressai:mbt2018-mean/3]")
    assert f"as {tmp_path}/compressai/mbt2018-mean-3-" in line
