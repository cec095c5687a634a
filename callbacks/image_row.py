"""One line of a results table: what is known of one picture, under the report's column names."""

from __future__ import annotations

import math
from typing import Any

from callbacks.image_quality import image_quality, image_rates
from lightning_modules.records import PICTURES_IN_FILE, CodedImage, DecodedImage, DecodedPack


def coded_row(image: CodedImage) -> dict[str, Any]:
    """Return size, rates, times, and the quality of what the file decodes to; None where that is not defined."""
    height, width = image.x.shape[-2:]
    quality = image_quality(image.x, image.x_hat, image.format)
    rates = image_rates(image)
    pixels = height * width
    return {
        **({} if image.chain is None else {"chain": [image.chain.mark, image.chain.length]}),
        "accounts": {f"bpp_{name}": bits / pixels for name, bits in image.accounts.items()} | _company(image),
        "height": height,
        "width": width,
        "bytes": image.num_bytes,
        "bpp": rates["bpp"],
        "bpp_estimated": rates["bpp_estimated"],
        **{name: None if math.isnan(value) else value for name, value in quality.items()},
        "encode_seconds": image.encode_seconds,
        "decode_seconds": image.decode_seconds,
    }


def _company(image: CodedImage) -> dict[str, Any]:
    """Return how many pictures the file holds, where it holds several."""
    return {} if image.share is None or image.chain is None else {PICTURES_IN_FILE: image.chain.length}


def decoded_row(image: DecodedImage) -> dict[str, Any]:
    """Return what a receiver knows: size, rate and time."""
    height, width = image.x_hat.shape[-2:]
    return {
        "height": height,
        "width": width,
        "bytes": image.num_bytes,
        "bpp": 8 * image.num_bytes / (height * width),
        "decode_seconds": image.decode_seconds,
    }


def decoded_pack_row(pack: DecodedPack) -> dict[str, Any]:
    """Return the same of a file of several pictures, which has no size of its own."""
    pixels = sum(picture.x_hat.shape[-2] * picture.x_hat.shape[-1] for picture in pack.pictures)
    return {"bytes": pack.num_bytes, "bpp": 8 * pack.num_bytes / pixels, "decode_seconds": pack.decode_seconds}
