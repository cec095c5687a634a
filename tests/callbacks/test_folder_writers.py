"""What the writers leave in the output folder is what the records hold, and one bad file ends nothing."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from callbacks.bitstream_writer import BitstreamWriter
from callbacks.image_quality import OPAQUE_RGB, image_quality
from callbacks.reconstruction_writer import ReconstructionWriter, png
from lightning_modules.folder_jobs.file_names import compressed_name, decoded_name
from lightning_modules.folder_jobs.folder_job import FolderJob
from lightning_modules.records import (
    REPORT_COLUMNS,
    Chain,
    CodedImage,
    DecodedImage,
    DecodedPack,
    Failure,
    PackShare,
    PixelFormat,
)
from lightning_modules.system import atomic_file

X = torch.randint(0, 256, (1, 3, 6, 4), generator=torch.Generator().manual_seed(0)) / 255.0
ALPHA = torch.arange(24, dtype=torch.uint8).reshape(6, 4)


def end_step(callback: L.Callback, *outputs: object) -> None:
    callback.on_predict_batch_end(L.Trainer.__new__(L.Trainer), L.LightningModule(), outputs, None, 0)


def coded(name: str) -> CodedImage:
    return CodedImage(name, X, X + 0.01, PixelFormat(), b"file of " + name.encode(), 50.0, 5, 0.5, 0.25)


def decoded(name: str, pixel_format: PixelFormat = OPAQUE_RGB) -> DecodedImage:
    return DecodedImage(name, X, pixel_format, 24, 0.25)


def test_a_coded_image_becomes_its_file_and_its_row(tmp_path: Path) -> None:
    job = FolderJob(tmp_path)
    writer = BitstreamWriter(job=job, output_name=compressed_name)
    end_step(writer, coded("a/b.png"), Failure("c.png", "c.png: is empty"))
    first, second = job.report.rows([("a/b.png", tmp_path / "a/b.png"), ("c.png", tmp_path / "c.png")])
    data = (tmp_path / "a" / "b.png.lpc").read_bytes()
    assert data == b"file of a/b.png"
    assert first == dict.fromkeys(REPORT_COLUMNS) | {
        "name": "a/b.png",
        "status": "ok",
        "height": 6,
        "width": 4,
        "bytes": len(data),
        "bpp": pytest.approx(8 * len(data) / 24),
        "bpp_estimated": pytest.approx(50 / 24),
        "psnr": pytest.approx(image_quality(X, X + 0.01)["psnr"]),
        "ms_ssim": None,
        "encode_seconds": 0.5,
        "decode_seconds": 0.25,
    }
    assert (second["status"], second["error"]) == ("failed", "c.png: is empty")


@pytest.mark.parametrize("writer_class", [BitstreamWriter, ReconstructionWriter])
def test_an_output_that_cannot_be_written_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer_class: type
) -> None:
    job = FolderJob(tmp_path)
    writer = writer_class(job=job, output_name=compressed_name)
    record = coded if writer_class is BitstreamWriter else decoded

    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(atomic_file, "_write_through", refuse)
        end_step(writer, record("a.png"))
    end_step(writer, record("b.png"))
    first, second = job.report.rows([("a.png", tmp_path / "a.png"), ("b.png", tmp_path / "b.png")])
    assert first["status"] == "failed"
    assert "the disk is full" in first["error"]
    assert second["status"] == "ok"


@pytest.mark.parametrize(
    ("pixel_format", "mode"),
    [
        (PixelFormat(), "RGB"),
        (PixelFormat(gray=True), "L"),
        (PixelFormat(alpha=ALPHA), "RGBA"),
        (PixelFormat(gray=True, alpha=ALPHA), "LA"),
    ],
)
def test_a_decoded_image_becomes_a_png_of_its_format(tmp_path: Path, pixel_format: PixelFormat, mode: str) -> None:
    job = FolderJob(tmp_path)
    end_step(ReconstructionWriter(job=job, output_name=decoded_name), decoded("a/c.jpg.lpc", pixel_format))
    (row,) = job.report.rows([("a/c.jpg.lpc", tmp_path / "a/c.jpg.lpc")])
    assert (row["status"], row["bytes"], row["bpp"]) == ("ok", 24, pytest.approx(8.0))
    with Image.open(tmp_path / "a" / "c.jpg.png") as picture:
        assert picture.mode == mode
        planes = np.atleast_3d(np.asarray(picture)).astype(int)
    color = (X[0] * 255).round().permute(1, 2, 0).numpy()
    if mode in ("L", "LA"):
        color = (X[0].mean(0) * 255).round().numpy()[:, :, None]
    assert np.array_equal(planes[:, :, : color.shape[2]], color)
    if pixel_format.alpha is not None:
        assert np.array_equal(planes[:, :, -1], ALPHA)


def test_values_beyond_the_range_are_clamped_and_the_colour_profile_is_kept() -> None:
    x_hat = torch.tensor([-1.0, 0.5001 / 255, 1.5]).reshape(1, 3, 1, 1)
    data = png(DecodedImage("a", x_hat, PixelFormat(icc_profile=b"a profile"), 1, 0.0))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.getpixel((0, 0)) == (0, 1, 255)
        assert picture.info["icc_profile"] == b"a profile"


def test_the_pictures_of_a_pack_share_one_file_and_have_rows_that_sum_to_it(tmp_path: Path) -> None:
    job, data = FolderJob(tmp_path), bytes(90)
    shares = [PackShare("pack-1.lpc", length) for length in (30, 60)]
    pictures = [
        coded(name)._replace(data=data, share=share, chain=Chain(1, 2))
        for name, share in zip(("a.png", "b/c.png"), shares, strict=True)
    ]
    end_step(BitstreamWriter(job=job, output_name=compressed_name), *pictures, coded("alone.png"))
    rows = job.report.rows([(name, tmp_path / name) for name in ("a.png", "b/c.png", "alone.png")])
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert [row["bytes"] for row in rows] == [30, 60, len(b"file of alone.png")]
    assert rows[0]["bpp"] == pytest.approx(8 * 30 / 24)
    assert [row.get("pictures_in_file") for row in rows] == [2, 2, None]
    assert sorted(path.name for path in tmp_path.rglob("*.lpc")) == ["alone.png.lpc", "pack-1.lpc"]
    assert (tmp_path / "pack-1.lpc").read_bytes() == data


def test_the_pictures_of_a_pack_get_their_names_back_beside_the_pack(tmp_path: Path) -> None:
    job = FolderJob(tmp_path)
    pack = DecodedPack("x/pack-1.lpc", (decoded("a.png"), decoded("b/c.jpg")), 48, 0.5)
    end_step(ReconstructionWriter(job=job, output_name=decoded_name), pack)
    assert sorted(path.relative_to(tmp_path / "x").as_posix() for path in tmp_path.rglob("*.png")) == [
        "a.png",
        "b/c.jpg.png",
    ]
    (row,) = job.report.rows([("x/pack-1.lpc", tmp_path / "x/pack-1.lpc")])
    assert (row["status"], row["bytes"], row["bpp"], row["height"]) == ("ok", 48, pytest.approx(8.0), None)


@pytest.mark.parametrize(
    ("names", "fault"),
    [(("a.jpg", "a.jpg.png"), "two of its pictures would become a.jpg.png"), (("../a.png", "b.png"), "outside")],
)
def test_a_pack_whose_names_cannot_be_given_back_fails_and_leaves_nothing_outside(
    tmp_path: Path, names: tuple[str, str], fault: str
) -> None:
    job = FolderJob(tmp_path / "out")
    pack = DecodedPack("pack-1.lpc", tuple(map(decoded, names)), 48, 0.5)
    end_step(ReconstructionWriter(job=job, output_name=decoded_name), pack)
    (row,) = job.report.rows([("pack-1.lpc", tmp_path / "pack-1.lpc")])
    assert row["status"] == "failed"
    assert fault in row["error"]
    assert not list(tmp_path.glob("*.png"))
