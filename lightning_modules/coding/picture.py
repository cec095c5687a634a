"""One picture as one file: latents, alpha and colour profile in, bytes out, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lightning_modules.codec import Codec, CodingError, ImageSize, Latents, PixelFormat, WrongModel
from lightning_modules.coding.container import Bitstream, fingerprint, read, require_model
from lightning_modules.coding.side_data import pack_alpha, pack_profile, unpack_alpha, unpack_profile
from lightning_modules.weight_snapshot import WeightSnapshot

_OUT_OF_MEMORY = "out of memory|allocate memory|not enough memory"
_fingerprints: WeakKeyDictionary[Codec, tuple[WeightSnapshot, bytes]] = WeakKeyDictionary()


def model_fingerprint(codec: Codec) -> bytes:
    """8 bytes that name everything the decoder computes with; hashed again only when one bit of it changed."""
    state = codec.decoder_state()
    known = _fingerprints.get(codec)
    if known is None or not known[0].equals(state):
        known = _fingerprints[codec] = (WeightSnapshot(state), fingerprint(state))
    return known[1]


class PackedPicture(NamedTuple):
    """data: the whole file. estimated_bits: cost of the latents under the coding tables."""

    data: bytes
    estimated_bits: float
    payload_bytes: int


class UnpackedPicture(NamedTuple):
    """x_hat: (1, 3, H, W), not clamped."""

    x_hat: Tensor
    format: PixelFormat


def pack(codec: Codec, latents: Latents, pixel_format: PixelFormat) -> PackedPicture:
    """Latents of one image -> its `.lpc` file. Raises `ValueError` for a batch, or alpha of another size."""
    alpha, profile = pixel_format.alpha, pixel_format.icc_profile
    _check_one_picture(latents, alpha)
    coded = codec.encode(latents)
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


def unpack(data: bytes, codec: Codec) -> UnpackedPicture:
    """The inverse of `pack`.

    Raises `DamagedFile` when any checksum disagrees, `WrongModel` when another model made the file, and no other
    exception than `CodingError`, whatever the bytes.
    """
    (picture,) = unpack_each([data], codec)
    if isinstance(picture, CodingError):
        raise picture
    return picture


def unpack_each(files: Sequence[bytes], codec: Codec) -> list[UnpackedPicture | CodingError]:
    """`unpack` of several files, those of equally large pictures together; what is wrong with one is in its place."""
    mark = model_fingerprint(codec)  # once for all files: every weight is compared
    bitstreams = [_readable(data, codec, mark) for data in files]
    pictures: dict[int, UnpackedPicture | CodingError] = {}
    by_size: dict[ImageSize, dict[int, Bitstream]] = {}
    for number, bitstream in enumerate(bitstreams):
        if isinstance(bitstream, CodingError):
            pictures[number] = bitstream
        else:
            by_size.setdefault(bitstream.image_size, {})[number] = bitstream
    for size, group in by_size.items():
        try:
            with _memory_for(size):
                pictures |= zip(group, _decode(list(group.values()), codec, size), strict=True)
        except CodingError as error:
            pictures |= dict.fromkeys(group, error)
    return [pictures[number] for number in range(len(files))]


def _readable(data: bytes, codec: Codec, mark: bytes) -> Bitstream | CodingError:
    """The file, if it is intact and this codec's, whose fingerprint is `mark`."""
    try:
        bitstream = read(data)
        require_model(bitstream, mark)
    except CodingError as error:
        return error
    if bitstream.codec_id != codec.codec_id:  # two codecs of one set of weights
        return WrongModel(
            f"needs codec {bitstream.codec_id} of model {bitstream.fingerprint.hex()}, have codec {codec.codec_id}; "
            "give the experiment that made the file"
        )
    return bitstream


def _decode(files: Sequence[Bitstream], codec: Codec, size: ImageSize) -> Iterator[UnpackedPicture | CodingError]:
    """Side data is unpacked after the latents were verified: they prove that a picture of this size is there."""
    found = codec.read_integers([file.sections for file in files], size)
    sound = [integers for integers in found if not isinstance(integers, CodingError)]
    x_hats = iter(codec.synthesize(sound, size).split(1) if sound else ())
    for file, integers in zip(files, found, strict=True):
        if isinstance(integers, CodingError):
            yield integers
            continue
        x_hat = next(x_hats)
        try:
            yield UnpackedPicture(x_hat, _pixel_format(file))
        except CodingError as error:
            yield error


def _pixel_format(bitstream: Bitstream) -> PixelFormat:
    alpha, icc = bitstream.alpha, bitstream.icc
    return PixelFormat(
        gray=bitstream.gray,
        alpha=None if alpha is None else torch.from_numpy(unpack_alpha(alpha, bitstream.image_size)),
        icc_profile=None if icc is None else unpack_profile(icc),
    )


@contextmanager
def _memory_for(image_size: ImageSize) -> Iterator[None]:
    """CodingError instead of what numpy and torch raise when memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has no class of its own for a CPU's memory: only the words tell it from a fault of ours
        if isinstance(error, RuntimeError) and not re.search(_OUT_OF_MEMORY, str(error)):
            raise
        height, width = image_size
        raise CodingError(
            f"not enough memory for a picture of {height}x{width} pixels; decode it where there is more"
        ) from error


def _check_one_picture(latents: Latents, alpha: Tensor | None) -> None:
    batches = {name: value.shape[0] for name, value in latents.variables.items() if value.shape[0] != 1}
    if batches:
        raise ValueError(f"a file holds one picture; these latents are of more: {batches}")
    if alpha is not None and tuple(alpha.shape) != tuple(latents.image_size):
        raise ValueError(f"alpha of size {tuple(alpha.shape)} does not cover a picture of {latents.image_size}")
