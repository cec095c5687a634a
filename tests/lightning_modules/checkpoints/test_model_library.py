"""A file's header is enough to find its model again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoints import model_library
from lightning_modules.checkpoints.model_library import ModelLibrary, packaged_models, remember
from lightning_modules.checkpoints.packaged_model import save_model
from lightning_modules.coding.picture import model_fingerprint, pack, unpack
from lightning_modules.errors import CodingError, WrongModel
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.records import PixelFormat


def tiny_codec(seed: int) -> HyperpriorCodec:
    torch.manual_seed(seed)
    return HyperpriorCodec(N=8, M=12, lmbda=0.01).eval()


@pytest.fixture(scope="module")
def codecs() -> list[HyperpriorCodec]:
    return [tiny_codec(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def files(codecs: list[HyperpriorCodec]) -> list[bytes]:
    """One picture, coded by each codec."""
    x = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    return [pack(codec, codec.analyze(x), PixelFormat()).data for codec in codecs]


@pytest.fixture
def folder(codecs: list[HyperpriorCodec], tmp_path: Path) -> Path:
    """A folder that holds a model of each codec, and things that are none."""
    folder = tmp_path / "models"
    for index, codec in enumerate(codecs):
        save_model(codec, folder / f"{index}.safetensors")
    (folder / "notes.txt").write_text("not a model")
    (folder / "cut.safetensors").write_bytes((folder / "0.safetensors").read_bytes()[:100])
    (folder / "empty.safetensors").touch()
    return folder


def test_each_file_finds_the_model_that_made_it(
    codecs: list[HyperpriorCodec], files: list[bytes], folder: Path
) -> None:
    library = ModelLibrary([folder])
    for codec, data in zip(codecs, files, strict=True):
        found = library.find(data)
        assert model_fingerprint(found) == model_fingerprint(codec)
        assert torch.equal(unpack(data, found)[0], unpack(data, codec)[0])


def test_a_model_is_loaded_once(files: list[bytes], folder: Path) -> None:
    library = ModelLibrary([folder])
    first = library.find(files[0])
    shutil.rmtree(folder)
    assert library.find(files[0]) is first


def test_codecs_given_are_used_before_any_folder(
    codecs: list[HyperpriorCodec], files: list[bytes], folder: Path
) -> None:
    assert ModelLibrary([folder], codecs).find(files[1]) is codecs[1]


def test_the_first_folder_that_holds_a_model_gives_it(files: list[bytes], folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "cache"
    shutil.copytree(folder, damaged)
    content = bytearray((damaged / "0.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "0.safetensors").write_bytes(content)
    ModelLibrary([folder, damaged]).find(files[0])
    with pytest.raises(CodingError, match="damaged"):
        ModelLibrary([damaged, folder]).find(files[0])


def test_an_unknown_model_is_named_beside_those_at_hand(
    codecs: list[HyperpriorCodec], files: list[bytes], tmp_path: Path
) -> None:
    marks = [model_fingerprint(codec).hex() for codec in codecs]
    for library, have in (
        (ModelLibrary([tmp_path / "missing"]), "none"),
        (ModelLibrary([tmp_path], [codecs[0]]), marks[0]),
    ):
        with pytest.raises(WrongModel) as caught:
            library.find(files[1])
        line = str(caught.value)
        assert line.startswith(f"needs model {marks[1]}, have {have}; ")
        assert "ckpt=" in line
        assert "\n" not in line


def test_many_models_at_hand_are_counted(files: list[bytes], tmp_path: Path) -> None:
    library = ModelLibrary([tmp_path], [tiny_codec(seed) for seed in range(10, 15)])
    with pytest.raises(WrongModel, match=r"have (\w{16}, ){3}\w{16} and 1 more;"):
        library.find(files[0])


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", b"LPC\r\n\x1a\x01"])
def test_bytes_that_are_no_file_need_no_model(data: bytes, folder: Path) -> None:
    with pytest.raises(CodingError):
        ModelLibrary([folder]).find(data)


def test_a_model_found_in_inference_mode_decodes_inside_and_outside_of_it(
    codecs: list[HyperpriorCodec], files: list[bytes], folder: Path
) -> None:
    library = ModelLibrary([folder])
    with torch.inference_mode():
        inside, _ = unpack(files[0], library.find(files[0]))
    outside, _ = unpack(files[0], library.find(files[0]))
    expected, _ = unpack(files[0], codecs[0])
    assert torch.equal(inside, expected)
    assert torch.equal(outside, expected)
    assert not any(parameter.is_inference() for parameter in library.find(files[0]).parameters())


# ---- remembering


def test_a_model_that_made_files_is_found_again(
    codecs: list[HyperpriorCodec], files: list[bytes], tmp_path: Path
) -> None:
    cache, packaged = tmp_path / "cache" / "models", tmp_path / "packaged"
    remember(codecs[0], cache, packaged)
    mark = model_fingerprint(codecs[0]).hex()
    assert [path.name for path in cache.iterdir()] == [f"{mark}.safetensors"]
    assert packaged_models(cache) == {mark: cache / f"{mark}.safetensors"}
    ModelLibrary([packaged, cache]).find(files[0])


def test_a_model_that_is_known_is_not_written_again(
    codecs: list[HyperpriorCodec], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    remember(codecs[0], cache, tmp_path / "none")
    monkeypatch.setattr(model_library, "save_model", lambda *_: pytest.fail("written again"))
    remember(codecs[0], cache, tmp_path / "none")
    remember(codecs[1], cache, packaged=folder)
    assert len(list(cache.iterdir())) == 1


def test_a_remembered_file_cut_short_is_written_anew(
    codecs: list[HyperpriorCodec], files: list[bytes], tmp_path: Path
) -> None:
    remember(codecs[0], tmp_path, tmp_path / "none")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    remember(codecs[0], tmp_path, tmp_path / "none")
    ModelLibrary([tmp_path]).find(files[0])


def test_a_cache_that_cannot_be_written_is_one_line(codecs: list[HyperpriorCodec], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(CodingError, match=r"cannot be saved .* paths\.cache_dir=") as caught:
        remember(codecs[0], tmp_path / "cache" / "models", tmp_path / "none")
    assert "\n" not in str(caught.value)
