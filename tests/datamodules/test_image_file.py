"""What is read, what is refused, and the line that says so."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.image_file import is_image_name, read_image, read_pixels
from datamodules.source_images import read_source
from lightning_modules.errors import CodingError
from lightning_modules.records import Failure

SHAPE = (20, 30)


@pytest.fixture
def rgb() -> Image.Image:
    """Noise, 30 wide and 20 high: every pixel tells its position."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8))


@pytest.fixture
def alpha() -> Image.Image:
    """Opacities, all values."""
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, SHAPE, dtype=np.uint8))


def refusal(path: Path, **limits: int) -> str:
    """The one line that refuses the file."""
    with pytest.raises(CodingError) as caught:
        read_image(path, **limits)
    line = str(caught.value)
    assert line.startswith(f"{path.name}: ")
    assert "\n" not in line
    return line


READ = {  # name: (height, width, gray, has alpha, bytes of the colour profile)
    "bilevel_pngsuite.png": (32, 32, True, False, 0),
    "constant_64.png": (64, 64, False, False, 0),
    "exif_rotated_6.jpg": (128, 128, False, False, 0),
    "gray.jpg": (128, 128, True, False, 0),
    "icc_profile.png": (57, 57, False, True, 3144),
    "jpeg_named.png": (128, 128, True, False, 0),
    "lossy_alpha.webp": (100, 100, False, True, 0),
    "odd_127x65.png": (65, 127, False, False, 0),
    "one_pixel_rgb.png": (1, 1, False, False, 0),
    "palette_alpha.png": (32, 32, False, True, 0),
    "progressive.jpg": (240, 320, False, False, 3048),
    "rgb.ppm": (128, 128, False, False, 0),
    "rgba_photo.png": (150, 200, False, True, 0),
    "strip_700x3.png": (3, 700, False, False, 0),
}
REFUSED = {  # name: (fault, remedy)
    "animated.gif": ("animated", "save one of them"),
    "bad_header_crc.png": ("no intact", "convert it to PNG or remove it"),
    "cmyk.jpg": ("CMYK", "-colorspace sRGB"),
    "gray16_pngsuite.png": ("16 bits per channel", "-depth 8"),
    "rgb16_pngsuite.png": ("16 bits per channel", "-depth 8"),
    "text_named.png": ("no intact", "convert it to PNG or remove it"),
    "truncated.jpg": ("cut short", "get a whole copy"),
    "truncated.png": ("cut short", "get a whole copy"),
    "truncated_half_96.png": ("cut short", "get a whole copy"),
    "zero_bytes.png": ("empty", "whole picture"),
}


def test_the_two_tables_name_every_awkward_picture(shared: Path) -> None:
    present = {path.name for path in (shared / "data" / "awkward").iterdir() if is_image_name(path)}
    assert present == READ.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", READ)
def test_an_awkward_picture_is_read_as_the_table_says(shared: Path, name: str) -> None:
    x, pixel_format = read_image(shared / "data" / "awkward" / name)
    height, width, gray, has_alpha, profile_bytes = READ[name]
    assert x.shape == (1, 3, height, width)
    assert x.dtype == torch.float32
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert pixel_format.gray is gray
    assert (pixel_format.alpha is not None) is has_alpha
    assert len(pixel_format.icc_profile or b"") == profile_bytes


@pytest.mark.parametrize("name", REFUSED)
def test_an_awkward_picture_is_refused_with_fault_and_remedy(shared: Path, name: str) -> None:
    line = refusal(shared / "data" / "awkward" / name)
    fault, remedy = REFUSED[name]
    assert fault in line
    assert remedy in line


def test_samples_are_the_bytes_over_255(tmp_path: Path, rgb: Image.Image) -> None:
    rgb.save(tmp_path / "a.png")
    x, _ = read_image(tmp_path / "a.png")
    assert np.array_equal((x[0] * 255).round().byte().permute(1, 2, 0).numpy(), np.asarray(rgb))


def test_gray_is_repeated_three_times_and_flagged(tmp_path: Path, alpha: Image.Image) -> None:
    alpha.save(tmp_path / "gray.png")
    pixels, pixel_format = read_pixels(tmp_path / "gray.png")
    assert pixel_format.gray
    assert all(np.array_equal(channel, np.asarray(alpha)) for channel in pixels.numpy())


def test_black_and_white_is_read_as_gray_0_and_255(tmp_path: Path, alpha: Image.Image) -> None:
    bilevel = alpha.convert("1")
    bilevel.save(tmp_path / "fax.png")
    pixels, pixel_format = read_pixels(tmp_path / "fax.png")
    assert pixel_format.gray
    assert np.array_equal(pixels[0].numpy() == 255, np.asarray(bilevel))
    assert set(pixels.unique().tolist()) == {0, 255}


@pytest.mark.parametrize("suffix", ["png", "tif", "jp2"])
def test_gray_and_alpha_are_both_kept(tmp_path: Path, rgb: Image.Image, alpha: Image.Image, suffix: str) -> None:
    picture = rgb.convert("L")
    picture.putalpha(alpha)
    path = tmp_path / f"la.{suffix}"
    picture.save(path)
    pixels, pixel_format = read_pixels(path)
    assert pixel_format.gray
    assert pixel_format.alpha is not None
    assert np.array_equal(pixel_format.alpha.numpy(), np.asarray(alpha))
    assert np.array_equal(pixels[1].numpy(), np.asarray(rgb.convert("L")))


def test_alpha_survives_even_where_it_is_opaque(tmp_path: Path, rgb: Image.Image, alpha: Image.Image) -> None:
    for name, plane in (("mixed.png", alpha), ("opaque.png", Image.new("L", rgb.size, 255))):
        picture = rgb.copy()
        picture.putalpha(plane)
        picture.save(tmp_path / name)
        pixels, pixel_format = read_pixels(tmp_path / name)
        assert pixel_format.alpha is not None
        assert pixel_format.alpha.dtype == torch.uint8
        assert np.array_equal(pixel_format.alpha.numpy(), np.asarray(plane))
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(rgb))  # also where it is transparent


def test_a_transparent_colour_becomes_alpha(tmp_path: Path, rgb: Image.Image) -> None:
    key = (1, 2, 3)
    rgb.putpixel((4, 5), key)
    rgb.save(tmp_path / "rgb.png", transparency=key)
    rgb.quantize(8).save(tmp_path / "palette.gif", transparency=0)
    rgb.convert("L").save(tmp_path / "gray.png", transparency=rgb.convert("L").getpixel((0, 0)))
    _, colour = read_pixels(tmp_path / "rgb.png")
    assert colour.alpha is not None
    assert colour.alpha[5, 4] == 0
    assert int((colour.alpha == 0).sum()) == 1
    for name, gray in (("palette.gif", False), ("gray.png", True)):
        _, pixel_format = read_pixels(tmp_path / name)
        assert pixel_format.gray is gray
        assert pixel_format.alpha is not None
        assert set(pixel_format.alpha.unique().tolist()) == {0, 255}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_the_colour_profile_is_kept_byte_for_byte(tmp_path: Path, rgb: Image.Image, suffix: str) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"profile.{suffix}"
    rgb.save(path, icc_profile=profile)
    assert read_pixels(path)[1].icc_profile == profile


def test_a_profile_larger_than_a_file_can_carry_is_refused(tmp_path: Path, rgb: Image.Image) -> None:
    rgb.save(tmp_path / "huge.jpg", icc_profile=bytes(2**22 + 1))
    assert "colour profile" in refusal(tmp_path / "huge.jpg")


UPRIGHT = {  # EXIF 2.32, tag 0x0112: how the stored rows and columns become the upright picture
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored[:, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_is_applied_to_picture_and_alpha(
    tmp_path: Path, rgb: Image.Image, alpha: Image.Image, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb.putalpha(alpha)
    path = tmp_path / f"turned.{suffix}"
    rgb.save(path, exif=exif, lossless=True, exact=True)  # the latter two are for WebP
    pixels, pixel_format = read_pixels(path)
    upright = UPRIGHT[orientation](np.asarray(rgb))
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), upright[..., :3])
    assert pixel_format.alpha is not None
    assert np.array_equal(pixel_format.alpha.numpy(), upright[..., 3])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path: Path, rgb: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb.save(tmp_path / "odd.png", exif=exif)
    assert np.array_equal(read_pixels(tmp_path / "odd.png")[0].permute(1, 2, 0).numpy(), np.asarray(rgb))


def test_broken_metadata_does_not_cost_the_picture(tmp_path: Path, rgb: Image.Image) -> None:
    rgb.save(tmp_path / "odd.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert np.array_equal(read_pixels(tmp_path / "odd.png")[0].permute(1, 2, 0).numpy(), np.asarray(rgb))


@pytest.mark.parametrize("suffix", ["png", "webp", "gif", "tif", "avif"])
def test_several_pictures_in_one_file_are_refused(tmp_path: Path, rgb: Image.Image, suffix: str) -> None:
    path = tmp_path / f"two.{suffix}"
    rgb.save(path, save_all=True, append_images=[rgb.rotate(180)])
    assert "animated or has pages" in refusal(path)


def test_a_photo_with_previews_inside_is_its_main_picture(tmp_path: Path, rgb: Image.Image) -> None:
    rgb.save(tmp_path / "camera.jpg", format="MPO", save_all=True, append_images=[rgb.resize((6, 4))])
    rgb.save(tmp_path / "alone.jpg")
    assert Image.open(tmp_path / "camera.jpg").format == "MPO"
    assert torch.equal(read_pixels(tmp_path / "camera.jpg")[0], read_pixels(tmp_path / "alone.jpg")[0])


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_colours_that_are_not_gray_or_rgb_are_refused(tmp_path: Path, rgb: Image.Image, mode: str) -> None:
    rgb.convert(mode).save(tmp_path / "colours.tif")
    assert f"has colours in {mode}" in refusal(tmp_path / "colours.tif")


def test_a_language_is_never_interpreted(tmp_path: Path, rgb: Image.Image) -> None:
    rgb.save(tmp_path / "program.png", format="EPS")
    assert "no intact" in refusal(tmp_path / "program.png")


def test_a_declared_size_above_the_limit_is_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "bomb.ppm").write_bytes(b"P6 20000 20000 255\n")
    assert "more than 268435456 pixels" in refusal(tmp_path / "bomb.ppm")


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_limit_is_exact_and_leaves_no_trace(tmp_path: Path, rgb: Image.Image, factor: int) -> None:
    before = Image.MAX_IMAGE_PIXELS
    rgb.resize((10, 10 * factor)).save(tmp_path / "a.png")
    read_pixels(tmp_path / "a.png", max_pixels=100 * factor)
    assert "pixels" in refusal(tmp_path / "a.png", max_pixels=100 * factor - 1)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.fuzz
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp", "ppm", "avif", "jp2", "qoi"])
def test_damage_is_refused_or_read_but_never_anything_else(tmp_path: Path, rgb: Image.Image, suffix: str) -> None:
    path = tmp_path / f"whole.{suffix}"
    rgb.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(7)
    for _ in range(60):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for position in rng.integers(0, len(data), 3):
            data[position] = rng.integers(256)
        path.write_bytes(data)
        record = read_source((path.name, path))
        if isinstance(record, Failure):
            assert record.error.startswith(path.name)
            assert "\n" not in record.error
        else:
            assert record.x.shape[:2] == (1, 3)


@pytest.mark.faults
def test_files_that_the_system_does_not_give_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "locked.png").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert "no such file" in refusal(tmp_path / "gone.png")
    assert "broken link" in refusal(tmp_path / "link.png")
    assert "not a regular file" in refusal(tmp_path / "pipe.png")
    assert "not a regular file" in refusal(tmp_path / "folder.png")

    def denied(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # the tests may run as root, who may read anything
    assert "make the file readable" in refusal(tmp_path / "locked.png")


def test_a_name_with_a_line_break_still_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "a\nb.png").write_bytes(b"")
    with pytest.raises(CodingError) as caught:
        read_image(tmp_path / "a\nb.png")
    assert str(caught.value).startswith("a?b.png: is empty")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[(name, True) for name in ("a.png", "A.JPEG", "x.tar.webp", "phone.heic")],
        *[(name, False) for name in ("a.png.lpc", "report.csv", "png", ".png", "README.md")],
    ],
)
def test_the_suffix_alone_makes_a_listed_file_an_input(name: str, expected: bool) -> None:
    assert is_image_name(name) is expected
