"""Lossless and lossy files as a user makes them, from a model of this room given as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_modules.checkpoints.packaged_model import save_model
from tests.harness.command_line import DECOMPRESS, refuse, report, run, succeed
from tests.lightning_modules.rec.small_codecs import lossless_codec, lossy_codec, picture

SIZES = {"a.png": (32, 32), "b/odd.png": (33, 47), "gray.png": (20, 16)}
LOSSLESS = ("task=compress", "experiment=rec_lossless_small", "logger=none")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "b").mkdir()
    for name, size in SIZES.items():
        pixels = (picture(*size)[0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels[..., 0] if name == "gray.png" else pixels).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_model(lossless_codec(), folder / "lossless.safetensors")
    save_model(lossy_codec(), folder / "lossy.safetensors")
    return folder


@pytest.mark.parametrize(
    "coder", ["irec", *(pytest.param(k, marks=pytest.mark.slow) for k in ("orc", "rec_bits_back"))]
)
def test_lossless_files_give_every_pixel_back(coder: str, photos: Path, models: Path, tmp_path: Path) -> None:
    ckpt = f"ckpt={models / 'lossless.safetensors'}"
    cache = {"LATENTPRESS_CACHE": str(tmp_path / "cache")}
    said = succeed(*LOSSLESS, ckpt, f"coder={coder}", f"input={photos}", f"output={tmp_path / 'files'}", **cache)
    assert "report: " in said
    rows = report(tmp_path / "files")
    assert {name: row["psnr"] for name, row in rows.items()} == dict.fromkeys(SIZES, "inf")
    succeed(*DECOMPRESS, "threads=2", f"input={tmp_path / 'files'}", f"output={tmp_path / 'out'}", **cache)
    for name in SIZES:
        assert int(rows[name]["bytes"]) == (tmp_path / "files" / f"{name}.lpc").stat().st_size
        with Image.open(photos / name) as before, Image.open(tmp_path / "out" / name) as after:
            assert after.mode == before.mode
            assert np.array_equal(np.array(after), np.array(before))


@pytest.mark.slow
def test_a_folder_in_packs_comes_back_whole(photos: Path, models: Path, tmp_path: Path) -> None:
    job = (*LOSSLESS, f"ckpt={models / 'lossless.safetensors'}", f"input={photos}", f"output={tmp_path / 'files'}")
    cache = {"LATENTPRESS_CACHE": str(tmp_path / "cache")}
    succeed(*job, **cache)
    alone = {path.name for path in (tmp_path / "files").rglob("*.lpc")}
    assert len(alone) == len(SIZES)
    succeed(*job, "coder.pack=64", **cache)
    (pack,) = (tmp_path / "files").rglob("*.lpc")
    rows = report(tmp_path / "files")
    assert sum(int(row["bytes"]) for row in rows.values()) == pack.stat().st_size
    assert {name: row["psnr"] for name, row in rows.items()} == dict.fromkeys(SIZES, "inf")
    written = pack.stat().st_mtime_ns
    succeed(*job, "coder.pack=64", **cache)
    assert {row["status"] for row in report(tmp_path / "files").values()} == {"skipped"}
    assert pack.stat().st_mtime_ns == written
    succeed(*DECOMPRESS, f"input={tmp_path / 'files'}", f"output={tmp_path / 'out'}", **cache)
    for name in SIZES:
        with Image.open(photos / name) as before, Image.open(tmp_path / "out" / name) as after:
            assert after.mode == before.mode
            assert np.array_equal(np.array(after), np.array(before))
    pack.write_bytes(pack.read_bytes()[:-1])
    done = run(*DECOMPRESS, f"input={tmp_path / 'files'}", f"output={tmp_path / 'out2'}", **cache)
    assert done.returncode == 1
    (row,) = report(tmp_path / "out2").values()
    assert row["error"] == f"{pack.name}: damaged: the file is cut off; get another copy of the file"


@pytest.mark.slow
def test_lossy_files_decode_to_the_pictures_that_the_sender_saw(photos: Path, models: Path, tmp_path: Path) -> None:
    ckpt, cache = f"ckpt={models / 'lossy.safetensors'}", {"LATENTPRESS_CACHE": str(tmp_path / "cache")}
    settings = ("task=compress", "experiment=rec_lossy_small", "logger=none", ckpt)
    succeed(*settings, f"input={photos}", f"output={tmp_path / 'files'}", **cache)
    succeed(*DECOMPRESS, "threads=2", f"input={tmp_path / 'files'}", f"output={tmp_path / 'out'}", **cache)
    for name, row in report(tmp_path / "files").items():
        with Image.open(photos / name) as before, Image.open(tmp_path / "out" / name) as after:
            error = np.square(np.array(before).astype(float) - np.array(after).astype(float)).mean()
        assert 10 * np.log10(255**2 / error) == pytest.approx(float(row["psnr"]), abs=0.05)


@pytest.mark.slow
def test_a_model_of_another_room_is_refused_in_one_line(photos: Path, models: Path, tmp_path: Path) -> None:
    ckpt = f"ckpt={models / 'lossy.safetensors'}"
    line = refuse(*LOSSLESS, ckpt, f"input={photos}", f"output={tmp_path / 'files'}")
    assert "holds a LossyCodec, not a LosslessCodec; choose the experiment that it was trained with" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rec_lossless", "rec_lossy", "rec_lossy_1level", "rec_lossy_4level", "rec_mnist"])
@pytest.mark.parametrize("twin", ["", "_small"])
def test_every_experiment_trains_tests_and_leaves_a_model(name: str, twin: str, tmp_path: Path) -> None:
    said = succeed(f"experiment={name}{twin}", "debug=tiny", "logger=none", f"paths.log_dir={tmp_path}")
    assert "test/bpp" in said
    (model,) = tmp_path.rglob("codec.safetensors")
    assert model.stat().st_size > 1000
