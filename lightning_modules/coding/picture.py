"""One picture as one file: latents, alpha and colour profile in, bytes out, and back."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lightning_modules.codec import Codec, Latents, PixelFormat
from lightning_modules.coding.container import Bitstream, fingerprint, read, require_model
from lightning_modules.coding.side_data import pack_alpha, pack_profile, unpack_alpha, unpack_profile

_fingerprints: WeakKeyDictionary[Codec, tuple[list[tuple[int, int]], bytes]] = WeakKeyDictionary()


def model_fingerprint(codec: Codec) -> bytes:
    """8 bytes that name everything the decoder computes with; hashed again only when a weight was written to."""
    codec.update()
    versions = [(value.data_ptr(), value._version) for value in codec.state_dict(keep_vars=True).values()]
    known = _fingerprints.get(codec)
    if known is None or known[0] != versions:
        known = _fingerprints[codec] = (versions, fingerprint(codec.decoder_state()))
    return known[1]


class PackedPicture(NamedTuple):
    """data: the whole file. estimated_bits: cost of the latents under the coding tables."""

    data: bytes
    estimated_bits: float
    payload_bytes: int


def pack(codec: Codec, latents: Latents, pixel_format: PixelFormat) -> PackedPicture:
    """Latents of one image -> its `.lpc` file."""
    coded = codec.encode(latents)
    alpha, profile = pixel_format.alpha, pixel_format.icc_profile
    bitstream = Bitstream(
        codec_id=codec.codec_id,
        fingerprint=model_fingerprint(codec),
        image_size=latents.image_size,
        gray=pixel_format.gray,
        alpha=None if alpha is None else pack_alpha(alpha.cpu().numpy()),
        icc=None if profile is None else pack_profile(profile),
        sections=tuple(coded.sections),
    )
    payload_bytes = sum(len(section.payload) for section in coded.sections)
    return PackedPicture(bitstream.to_bytes(), sum(coded.bits.values()), payload_bytes)


def unpack(data: bytes, codec: Codec) -> tuple[Tensor, PixelFormat]:
    """An `.lpc` file -> x_hat (1, 3, H, W), not clamped, and its pixel format.

    Raises `DamagedFile` when any checksum disagrees, `WrongModel` when another model made the file.
    """
    bitstream = read(data)
    require_model(bitstream, model_fingerprint(codec))
    alpha, icc = bitstream.alpha, bitstream.icc
    pixel_format = PixelFormat(
        gray=bitstream.gray,
        alpha=None if alpha is None else torch.from_numpy(unpack_alpha(alpha, bitstream.image_size)),
        icc_profile=None if icc is None else unpack_profile(icc),
    )
    return codec.decode(bitstream.sections, bitstream.image_size), pixel_format
