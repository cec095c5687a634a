"""Classical codecs: the best file within a number of bytes, and codecs that an installation lacks."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from lightning_modules.classical.pillow_codecs import (
    ClassicalCodec,
    MissingCodec,
    avif,
    encode_within,
    jpeg,
    jpeg_xl,
    standard_codecs,
    webp,
)
from lightning_modules.errors import CodingError

CODECS = [codec for codec in standard_codecs() if isinstance(codec, ClassicalCodec)]
each_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A face, 96 x 80, RGB."""
    package = find_spec("skimage")
    assert package is not None
    assert package.origin is not None
    with Image.open(Path(package.origin).parent / "data" / "astronaut.png") as image:
        return image.convert("RGB").crop((180, 60, 276, 140))


def ladder(sizes: list[int]) -> ClassicalCodec:
    """A codec whose file of quality i + 1 has `sizes[i]` bytes."""
    return ClassicalCodec(
        "ladder",
        "",
        range(1, len(sizes) + 1),
        lambda image, quality: bytes(sizes[quality - 1]),
        lambda data: Image.new("RGB", (1, 1)),
    )


PIXEL = Image.new("RGB", (1, 1))


@each_codec
@pytest.mark.parametrize("max_bytes", [900, 1700])
def test_a_file_never_exceeds_the_bytes_and_the_next_quality_does(
    codec: ClassicalCodec, photo: Image.Image, max_bytes: int
) -> None:
    encoded = encode_within(codec, photo, max_bytes)
    following = codec.qualities[codec.qualities.index(encoded.quality) + 1]
    assert encoded.fits
    assert len(encoded.data) <= max_bytes < len(codec.encode(photo, following))
    assert encoded.data == codec.encode(photo, encoded.quality)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(0, 40))
def test_this_holds_for_any_sizes_monotone_or_not(sizes: list[int], max_bytes: int) -> None:
    encoded = encode_within(ladder(sizes), PIXEL, max_bytes)
    assert len(encoded.data) == sizes[encoded.quality - 1]
    assert encoded.fits == (sizes[0] <= max_bytes)
    if encoded.fits:
        assert len(encoded.data) <= max_bytes
        assert encoded.quality == len(sizes) or sizes[encoded.quality] > max_bytes


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(0, 40))
def test_with_growing_sizes_it_is_the_highest_quality_that_fits(sizes: list[int], max_bytes: int) -> None:
    sizes = sorted(sizes)
    fitting = sum(size <= max_bytes for size in sizes)
    assert encode_within(ladder(sizes), PIXEL, max_bytes).quality == max(fitting, 1)


@each_codec
def test_when_nothing_fits_the_smallest_quality_is_given_with_its_true_size(
    codec: ClassicalCodec, photo: Image.Image
) -> None:
    encoded = encode_within(codec, photo, 10)
    assert not encoded.fits
    assert encoded.quality == codec.qualities[0]
    assert encoded.data == codec.encode(photo, codec.qualities[0])
    assert len(encoded.data) > 10


@each_codec
def test_with_bytes_to_spare_the_highest_quality_is_taken(codec: ClassicalCodec, photo: Image.Image) -> None:
    small = photo.crop((0, 0, 16, 16))
    assert encode_within(codec, small, 10**6).quality == codec.qualities[-1]


@each_codec
def test_more_bytes_give_a_picture_closer_to_the_original(codec: ClassicalCodec, photo: Image.Image) -> None:
    def error(max_bytes: int) -> float:
        decoded = codec.decode(encode_within(codec, photo, max_bytes).data)
        assert decoded.size == photo.size
        return float(np.square(np.asarray(photo, float) - np.asarray(decoded.convert("RGB"), float)).mean())

    assert error(4000) < 0.7 * error(1200)


@each_codec
def test_gray_costs_less_than_colour_and_comes_back_gray(codec: ClassicalCodec, photo: Image.Image) -> None:
    quality = codec.qualities[len(codec.qualities) * 7 // 10]
    data = codec.encode(photo.convert("L"), quality)
    assert len(data) < len(codec.encode(photo, quality))
    channels = np.asarray(codec.decode(data).convert("RGB"), int)
    assert np.ptp(channels, axis=-1).max() <= 1  # WebP has chroma planes, and rounds


@each_codec
def test_metadata_is_not_written(codec: ClassicalCodec, photo: Image.Image) -> None:
    labelled = photo.copy()
    labelled.info = {
        "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    }
    labelled.getexif()[0x010E] = "a description " * 99
    bare = Image.fromarray(np.asarray(photo))
    assert codec.encode(labelled, codec.qualities[9]) == codec.encode(bare, codec.qualities[9])


def test_jpeg_is_optimised_baseline_4_2_0(photo: Image.Image) -> None:
    (codec,) = (codec for codec in CODECS if codec.name == "JPEG")
    plain = io.BytesIO()
    photo.save(plain, "JPEG", quality=50, subsampling="4:2:0")
    data = codec.encode(photo, 50)
    opened = Image.open(io.BytesIO(data))
    assert opened.layer[0][1:3] == (2, 2)  # type: ignore[attr-defined]  # luma, sampled twice as finely
    assert "progressive" not in opened.info
    assert len(data) < len(plain.getvalue())
    np.testing.assert_array_equal(np.asarray(codec.decode(data)), np.asarray(Image.open(plain)))


def test_jpeg_xl_qualities_are_fine_enough_to_use_nearly_all_bytes(photo: Image.Image) -> None:
    (codec,) = (codec for codec in CODECS if codec.name == "JPEG XL")
    assert all(len(encode_within(codec, photo, size).data) > 0.97 * size for size in (1200, 1500, 1800))


def test_a_picture_that_a_codec_cannot_code_is_one_line_with_its_size() -> None:
    codec = webp(method=0)
    assert isinstance(codec, ClassicalCodec)
    with pytest.raises(CodingError, match=r"^WebP cannot code 16384 x 1 pixels .*16383.*; cut the picture$"):
        encode_within(codec, Image.new("RGB", (16384, 1)), 1000)


def test_settings_state_versions_subsampling_and_effort() -> None:
    settings = {codec.name: codec.settings for codec in CODECS}
    assert "4:2:0" in settings["JPEG"]
    assert f"{features.version('webp')}, 4:2:0, method 6" in settings["WebP"]
    assert f"{features.version('avif')}, 4:2:0, speed 6" in settings["AVIF"]
    assert "effort 7" in settings["JPEG XL"]


def test_without_its_plugin_jpeg_xl_is_missing_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    missing = jpeg_xl()
    assert isinstance(missing, MissingCodec)
    assert missing.name == "JPEG XL"
    assert "pip install pillow-jxl-plugin" in missing.reason


@pytest.mark.parametrize("build", [jpeg, webp, avif])
def test_what_pillow_was_built_without_is_missing(build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: False)
    missing = build()
    assert isinstance(missing, MissingCodec)
    assert "built without it" in missing.reason
