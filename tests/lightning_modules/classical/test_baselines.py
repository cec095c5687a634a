"""Baselines: rows are what direct calls of Pillow give, byte for byte; every one says what made it; nothing twice."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from callbacks.image_quality import image_quality
from lightning_modules.classical.baselines import Baselines, ColourRoundTrip, Ladder, as_pillow, as_tensor
from lightning_modules.classical.pillow_codecs import ClassicalCodec, MissingCodec, avif, jpeg, jpeg_2000, jpeg_xl, webp
from lightning_modules.errors import CodingError
from lightning_modules.records import Failure, PixelFormat, SourceImage

LADDERS: dict[str, tuple[ClassicalCodec | MissingCodec, list[int], str, Any]] = {
    "jpeg": (jpeg(), [20, 80], "JPEG", lambda q: {"quality": q, "subsampling": "4:2:0", "optimize": True}),
    "jpeg_444": (
        jpeg("4:4:4", "JPEG 4:4:4"),
        [20, 80],
        "JPEG",
        lambda q: {"quality": q, "subsampling": "4:4:4", "optimize": True},
    ),
    "jpeg_2000": (
        jpeg_2000(),
        [40, 8],
        "JPEG2000",
        lambda q: {"irreversible": True, "mct": 1, "quality_mode": "rates", "quality_layers": [q]},
    ),
    "webp": (webp(), [10, 80], "WEBP", lambda q: {"quality": q, "method": 6}),
    "avif": (
        avif(),
        [30, 80],
        "AVIF",
        lambda q: {"quality": q, "speed": 6, "subsampling": "4:2:0", "autotiling": False},
    ),
    "avif_444": (
        avif(6, "4:4:4", "AVIF 4:4:4"),
        [30, 80],
        "AVIF",
        lambda q: {"quality": q, "speed": 6, "subsampling": "4:4:4", "autotiling": False},
    ),
    "jpeg_xl": (jpeg_xl(), [300, 900], "JXL", lambda q: {"quality": q / 10, "lossless": False, "effort": 7}),
}


class Silence:
    """Provenance of nothing, which remembers where it was asked for."""

    def __init__(self) -> None:
        self.folders: list[str] = []

    def write(self, run_folder: Path, stage: str) -> None:
        self.folders.append(f"{stage} {run_folder.name}")


def pixels() -> np.ndarray:
    """Smooth colours with some noise, (48, 64, 3)."""
    ramp = np.stack(np.broadcast_arrays(*np.ogrid[0:255:48j, 0:255:64j], 128.0), axis=-1)
    return (0.8 * ramp + np.random.default_rng(0).integers(0, 50, ramp.shape)).astype(np.uint8)


def source(name: str = "a.png", gray: bool = False) -> SourceImage:
    levels = pixels().mean(2, keepdims=True).astype(np.uint8).repeat(3, 2) if gray else pixels()
    x = torch.from_numpy(levels.transpose(2, 0, 1)[None].copy()).float() / 255
    return SourceImage(name, x, PixelFormat(gray=gray, icc_profile=b"a profile that is paid for elsewhere"))


def baselines(codecs: dict[str, Any], pictures: Sequence[SourceImage | Failure], **settings: Any) -> Baselines:
    provenance = settings.pop("provenance", Silence())
    return Baselines(lambda: list(pictures), codecs, image_quality, provenance, say=lambda line: None, **settings)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.mark.parametrize("name", LADDERS)
def test_rows_are_what_direct_calls_of_pillow_give_byte_for_byte(name: str, tmp_path: Path) -> None:
    codec, qualities, format_name, options = LADDERS[name]
    if isinstance(codec, MissingCodec):
        pytest.skip(codec.reason)
    (path,) = baselines({name: Ladder(codec, qualities)}, [source()]).run(tmp_path)
    rows = rows_of(path)
    assert [row["setting"] for row in rows] == list(map(str, qualities))
    for row, quality in zip(rows, qualities, strict=True):
        file = io.BytesIO()
        Image.fromarray(pixels()).save(file, format_name, **options(quality))
        assert codec.encode(as_pillow(source()), quality) == file.getvalue()
        decoded = np.asarray(Image.open(file).convert("RGB"), float)
        mse = np.square(decoded - pixels()).mean()
        assert int(row["bytes"]) == len(file.getvalue())
        assert float(row["bpp"]) == pytest.approx(8 * len(file.getvalue()) / (48 * 64), abs=1e-6)
        assert float(row["psnr"]) == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-5)
        assert row["settings"] == codec.settings
        assert float(row["encode_seconds"]) > 0
    assert int(rows[0]["bytes"]) < int(rows[1]["bytes"])
    assert float(rows[0]["psnr"]) < float(rows[1]["psnr"])


def test_without_a_codec_the_round_trip_of_colours_keeps_52_decibels_and_has_no_rate(tmp_path: Path) -> None:
    (path,) = baselines({"trip": ColourRoundTrip()}, [source()]).run(tmp_path)
    (row,) = rows_of(path)
    assert float(row["psnr"]) >= 52.0
    assert row["bytes"] == row["bpp"] == ""
    assert "rounded" in row["settings"]


def test_gray_pictures_are_coded_and_measured_in_their_one_channel(tmp_path: Path) -> None:
    gray = source(gray=True)
    assert as_pillow(gray).mode == "L"
    (path,) = baselines({"jpeg": Ladder(jpeg(), [80])}, [gray]).run(tmp_path)
    file = io.BytesIO()
    as_pillow(gray).save(file, "JPEG", quality=80, optimize=True)
    assert rows_of(path)[0]["bytes"] == str(len(file.getvalue()))


def test_pixels_survive_both_conversions() -> None:
    assert torch.equal(as_tensor(as_pillow(source())), source().x)


def test_a_refused_picture_and_one_that_a_codec_cannot_take_fail_alone(tmp_path: Path) -> None:
    wide = SourceImage("wide.png", torch.zeros(1, 3, 1, 16384))
    pictures: list[SourceImage | Failure] = [Failure("b.png", "b.png: damaged; give another"), wide, source()]
    (path,) = baselines({"webp": Ladder(webp(0), [10])}, pictures).run(tmp_path)
    rows = rows_of(path)
    assert [(row["name"], row["status"]) for row in rows] == [
        ("b.png", "failed"),
        ("wide.png", "failed"),
        ("a.png", "ok"),
    ]
    assert rows[0]["error"] == "b.png: damaged; give another"
    assert "WebP cannot code it" in rows[1]["error"]
    with pytest.raises(CodingError, match=r"^b\.png: damaged"):
        baselines({"webp": Ladder(webp(0), [10])}, pictures[:1]).run(tmp_path / "other")


def test_further_distances_are_columns(tmp_path: Path) -> None:
    distances = {"blue": lambda x, x_hat: (x - x_hat)[:, 2].abs().mean()[None]}
    (path,) = baselines({"jpeg": Ladder(jpeg(), [10, 90])}, [source()], distances=distances).run(tmp_path)
    low, high = (float(row["blue"]) for row in rows_of(path))
    assert low > high > 0


def test_a_missing_codec_is_said_and_left_out_and_the_others_are_explained(tmp_path: Path) -> None:
    said: list[str] = []
    provenance = Silence()
    codecs = {"x": Ladder(MissingCodec("X", "not installed; pip install x")), "jpeg": Ladder(jpeg(), [50])}
    job = Baselines(lambda: [source()], codecs, image_quality, provenance, say=said.append)
    assert [path.parent.name for path in job.run(tmp_path)] == ["jpeg"]
    assert "X is left out: not installed; pip install x" in said
    assert provenance.folders == ["baselines jpeg"]


def test_what_is_there_is_not_measured_again_unless_something_differs(tmp_path: Path) -> None:
    measured: list[int] = []

    class Counting(Ladder):
        def versions(self, image: Image.Image) -> Iterator[Any]:
            measured.append(1)
            return super().versions(image)

    def run(qualities: list[int], names: list[str], **settings: Any) -> int:
        measured.clear()
        baselines({"jpeg": Counting(jpeg(), qualities)}, [source(name) for name in names], **settings).run(tmp_path)
        return len(measured)

    assert run([50], ["a.png"]) == 1
    assert run([50], ["a.png"]) == 0
    assert run([50, 60], ["a.png"]) == 1
    assert run([50, 60], ["a.png", "b.png"]) == 2
    distances = {"far": lambda x, x_hat: torch.zeros(1)}
    assert run([50, 60], ["a.png", "b.png"], distances=distances) == 2
    assert run([50, 60], ["a.png", "b.png"]) == 0


def test_a_quality_that_a_codec_does_not_have_is_refused() -> None:
    with pytest.raises(CodingError, match="JPEG has no quality 200"):
        Ladder(jpeg(), [50, 200])
