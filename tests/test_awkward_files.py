"""Every awkward picture through the command line, there and back: an exact round trip, or a row that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.harness.command_line import COMPRESS, DECOMPRESS, refuse, report, succeed

pytestmark = pytest.mark.faults

# name -> mode and (width, height) of the picture that comes back
CODED = {
    "bilevel_pngsuite.png": ("L", (32, 32)),
    "constant_64.png": ("RGB", (64, 64)),
    "exif_rotated_6.jpg": ("RGB", (128, 128)),
    "gray.jpg": ("L", (128, 128)),
    "icc_profile.png": ("RGBA", (57, 57)),
    "jpeg_named.png": ("L", (128, 128)),
    "lossy_alpha.webp": ("RGBA", (100, 100)),
    "odd_127x65.png": ("RGB", (127, 65)),
    "one_pixel_rgb.png": ("RGB", (1, 1)),
    "palette_alpha.png": ("RGBA", (32, 32)),
    "progressive.jpg": ("RGB", (320, 240)),
    "rgb.ppm": ("RGB", (128, 128)),
    "rgba_photo.png": ("RGBA", (200, 150)),
    "strip_700x3.png": ("RGB", (700, 3)),
}
# name -> why it is refused
REFUSED = {
    "animated.gif": "is animated or has pages",
    "bad_header_crc.png": "is no intact",
    "cmyk.jpg": "has colours in CMYK",
    "gray16_pngsuite.png": "has 16 bits per channel",
    "rgb16_pngsuite.png": "has 16 bits per channel",
    "text_named.png": "is no intact",
    "truncated.jpg": "is damaged or cut short",
    "truncated.png": "is damaged or cut short",
    "truncated_half_96.png": "is damaged or cut short",
    "zero_bytes.png": "is empty",
}


@pytest.fixture(scope="module")
def awkward(shared: Path) -> Path:
    folder = shared / "data" / "awkward"
    if not folder.is_dir():
        pytest.skip("the shared data holds no data/awkward")
    return folder


@pytest.fixture(scope="module")
def compressed(awkward: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a compress job over all of them, which ends with exit code 1 and one line."""
    output = tmp_path_factory.mktemp("awkward") / "files"
    run_folder = f"hydra.run.dir={output.parent / 'run'}"
    line = refuse(*COMPRESS, "ckpt=demo", f"input={awkward}", f"output={output}", run_folder)
    assert f"{len(REFUSED)} of {len(CODED) + len(REFUSED)} files failed" in line
    return output


@pytest.fixture(scope="module")
def decoded(compressed: Path) -> Path:
    """The folder of a decompress job over their files, which ends with exit code 0: none of its rows failed."""
    output = compressed.parent / "decoded"
    succeed(*DECOMPRESS, f"input={compressed}", f"output={output}", f"hydra.run.dir={compressed.parent / 'run'}")
    return output


def original(path: Path) -> Image.Image:
    """As a viewer shows it, in the mode in which it is to come back."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert(CODED[path.name][0])


def back(folder: Path, name: str) -> Image.Image:
    with Image.open(folder / (name if name.endswith(".png") else f"{name}.png")) as image:
        image.load()
        return image


def test_the_table_names_every_file(awkward: Path) -> None:
    assert CODED.keys() | REFUSED.keys() == {path.name for path in awkward.iterdir()} - {"README.md"}


def test_each_file_is_coded_or_refused_with_a_line_that_says_why(compressed: Path, decoded: Path) -> None:
    rows = report(compressed)
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(CODED, "ok") | dict.fromkeys(
        REFUSED, "failed"
    )
    for name, reason in REFUSED.items():
        assert rows[name]["error"].startswith(f"{name}: {reason}"), rows[name]["error"]
    assert {name: row["status"] for name, row in report(decoded).items()} == {f"{name}.lpc": "ok" for name in CODED}


@pytest.mark.parametrize("name", CODED)
def test_mode_size_alpha_and_colour_profile_come_back_exactly(name: str, awkward: Path, decoded: Path) -> None:
    image, image_hat = original(awkward / name), back(decoded, name)
    assert (image_hat.mode, image_hat.size) == CODED[name]
    assert image_hat.info.get("icc_profile") == image.info.get("icc_profile")
    if image.mode == "RGBA":
        assert np.array_equal(np.asarray(image_hat)[:, :, 3], np.asarray(image)[:, :, 3])


@pytest.mark.parametrize("name", ["exif_rotated_6.jpg", "gray.jpg", "odd_127x65.png", "progressive.jpg", "rgb.ppm"])
def test_the_picture_that_comes_back_is_the_upright_one(name: str, awkward: Path, decoded: Path) -> None:
    x, x_hat = (np.asarray(image, np.float64) for image in (original(awkward / name), back(decoded, name)))
    mse = np.mean((x - x_hat) ** 2)
    assert mse < 0.25 * np.var(x), "it is another picture"
    assert mse < np.mean((np.rot90(x, 2) - x_hat) ** 2) / 4


def test_a_picture_s_colour_profile_was_there_to_be_kept(awkward: Path) -> None:
    assert len(original(awkward / "icc_profile.png").info["icc_profile"]) > 100
