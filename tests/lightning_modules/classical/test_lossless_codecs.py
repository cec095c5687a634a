"""Lossless codecs: every pixel comes back, files are those of direct calls of Pillow, settings say what was done."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image, features

from lightning_modules.classical.pillow_codecs import (
    ONLY,
    ClassicalCodec,
    MissingCodec,
    jpeg_xl_lossless,
    png,
    webp_lossless,
)

CODECS = [codec for codec in (png(), webp_lossless(), jpeg_xl_lossless()) if isinstance(codec, ClassicalCodec)]
DIRECT = {
    "PNG": ("PNG", {"optimize": True, "compress_level": 9}),
    "WebP lossless": ("WEBP", {"lossless": True, "exact": True, "method": 6, "quality": 100}),
    "JPEG XL lossless": ("JXL", {"lossless": True, "effort": 7}),
}


def picture(mode: str) -> Image.Image:
    """Noise on a ramp, 61 x 47."""
    ramp = np.add.outer(np.arange(47), np.arange(61))[..., None] + [0, 40, 90]
    noisy = ramp + np.random.default_rng(0).integers(0, 9, (47, 61, 3))
    return Image.fromarray(noisy.astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_pixel_comes_back(codec: ClassicalCodec, mode: str) -> None:
    image = picture(mode)
    data = codec.encode(image, *ONLY)
    assert len(data) < len(image.tobytes())
    np.testing.assert_array_equal(np.asarray(codec.decode(data).convert(mode)), np.asarray(image))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_the_file_is_that_of_a_direct_call_of_pillow(codec: ClassicalCodec) -> None:
    format_name, options = DIRECT[codec.name]
    direct = io.BytesIO()
    picture("RGB").save(direct, format_name, **options)
    assert codec.encode(picture("RGB"), *ONLY) == direct.getvalue()


def test_what_is_not_installed_is_missing_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    monkeypatch.setattr(features, "check", lambda feature: False)
    missing = [jpeg_xl_lossless(), webp_lossless()]
    assert all(isinstance(one, MissingCodec) and "pip install" in one.reason for one in missing)
