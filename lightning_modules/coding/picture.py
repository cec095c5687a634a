"""One picture as one file: latents, alpha and colour profile in, bytes out, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from lightning_modules.capabilities import Progressive, chain_of, further_pictures, leading_sections, read_together
from lightning_modules.codec import Codec
from lightning_modules.coding.container import Bitstream, fingerprint, read, require_model
from lightning_modules.coding.side_data import pack_alpha, pack_profile, unpack_alpha, unpack_profile
from lightning_modules.derived_value import WeightSnapshot
from lightning_modules.errors import CodingError, WrongModel
from lightning_modules.records import CARRIED, Chain, Coded, ImageSize, Integers, Latents, PackShare, PixelFormat
from lightning_modules.system.memory_shortage import as_coding_error

_fingerprints: WeakKeyDictionary[Codec, tuple[WeightSnapshot, bytes]] = WeakKeyDictionary()


def model_fingerprint(codec: Codec) -> bytes:
    """Return 8 bytes that name everything the decoder computes with; hashed again only when one bit of it changed.

    Raises:
        CodingError: Some of it is not finite: no file can be made, or read, with such a model.
    """
    state = codec.decoder_state()
    known = _fingerprints.get(codec)
    if known is None or not known[0].equals(state):
        require_finite(state)
        known = _fingerprints[codec] = (WeightSnapshot(state), fingerprint(state))
    return known[1]


def require_finite(values: Mapping[str, Tensor]) -> None:
    """Raise `CodingError` for weights, or latents, of a model whose training has diverged."""
    for name, value in values.items():
        if value.is_floating_point() and not bool(torch.isfinite(value.detach()).all()):
            raise CodingError(f"{name} is not finite: the training of this model diverged; take an earlier checkpoint")


def check_finite(codec: Codec, images: Iterable[Latents]) -> None:
    """Raise `CodingError` where a model, or what it makes of pictures, is not finite: before any of it is coded."""
    require_finite(dict(codec.named_parameters()))
    for latents in images:
        require_finite(latents.variables)


class PackedPicture(NamedTuple):
    """data: the whole file. estimated_bits: cost of the latents under the coding tables. accounts: as of `Coded`.

    chain, share: as of `CodedImage`.
    """

    data: bytes
    estimated_bits: float
    payload_bytes: int
    accounts: Mapping[str, float] = MappingProxyType({})
    chain: Chain | None = None
    share: PackShare | None = None


class UnpackedPicture(NamedTuple):
    """x_hat: (1, 3, H, W), not clamped."""

    x_hat: Tensor
    format: PixelFormat


def pack(codec: Codec, latents: Latents, pixel_format: PixelFormat) -> PackedPicture:
    """Return the `.lpc` file of one image's latents. Raises `ValueError` for a batch, or alpha of another size."""
    check_one_picture(latents, pixel_format.alpha)
    check_finite(codec, [latents])
    return assemble(codec, codec.encode(latents), latents, pixel_format)


def assemble(codec: Codec, coded: Coded, latents: Latents, pixel_format: PixelFormat) -> PackedPicture:
    """Return the file of one image whose latents are coded already. Raises as `pack`."""
    alpha, profile = pixel_format.alpha, pixel_format.icc_profile
    check_one_picture(latents, alpha)
    bitstream = Bitstream(
        codec_id=codec.codec_id,
        fingerprint=model_fingerprint(codec),
        image_size=latents.image_size,
        gray=pixel_format.gray,
        alpha=None if alpha is None else pack_alpha(alpha.cpu().numpy()),
        icc=None if profile is None else pack_profile(profile),
        sections=tuple(coded.sections),
        progressive=isinstance(codec, Progressive),
    )
    payload_bytes = sum(len(section.payload) for section in coded.sections)
    bits, chain = sum(coded.bits.values()), chain_of(codec, coded.sections)
    return PackedPicture(bitstream.to_bytes(), bits, payload_bytes, coded.accounts, chain)


def unpack(data: bytes, codec: Codec) -> UnpackedPicture:
    """Return the inverse of `pack`.

    Raises `DamagedFile` when any checksum disagrees, `WrongModel` when another model made the file, and no other
    exception than `CodingError`, whatever the bytes.
    """
    (picture,) = unpack_each([data], codec)
    if isinstance(picture, CodingError):
        raise picture
    return picture


def unpack_each(files: Sequence[bytes], codec: Codec) -> list[UnpackedPicture | CodingError]:
    """Unpack several files, those of equally large pictures together; what is wrong with one is in its place.

    The files of a chain are read together, whatever their sizes.
    """
    mark = model_fingerprint(codec)  # once for all files: every weight is compared
    bitstreams = [_readable_picture(data, codec, mark) for data in files]
    pictures: dict[int, UnpackedPicture | CodingError] = {}
    groups: dict[Chain | ImageSize, dict[int, Bitstream]] = {}
    for number, bitstream in enumerate(bitstreams):
        if isinstance(bitstream, CodingError):
            pictures[number] = bitstream
        else:
            groups.setdefault(_group_of(bitstream, codec), {})[number] = bitstream
    for group in groups.values():
        try:
            with memory_for(max((file.image_size for file in group.values()), key=math.prod)):
                pictures |= zip(group, _decode(list(group.values()), codec), strict=True)
        except CodingError as error:
            pictures |= dict.fromkeys(group, error)
    return [pictures[number] for number in range(len(files))]


def _readable_picture(data: bytes, codec: Codec, mark: bytes) -> Bitstream | CodingError:
    try:
        bitstream = readable(data, codec, mark)
    except CodingError as error:
        return error
    return CodingError("holds several pictures; decode it with task=decompress") if bitstream.is_pack else bitstream


def readable(data: bytes, codec: Codec, mark: bytes) -> Bitstream:
    """Return the file, if it is intact and this codec's, whose fingerprint is `mark`. Raises `CodingError`."""
    bitstream = read(data, leading=leading_sections(codec))
    require_model(bitstream, mark)
    if bitstream.codec_id != codec.codec_id:  # two codecs of one set of weights
        raise WrongModel(
            f"needs codec {bitstream.codec_id} of model {bitstream.fingerprint.hex()}, have codec {codec.codec_id}; "
            "give the experiment that made the file"
        )
    return bitstream


def _group_of(bitstream: Bitstream, codec: Codec) -> Chain | ImageSize:
    """Return what files that are read together have in common.

    A fault found here is found again, and told, by reading.
    """
    try:
        return chain_of(codec, bitstream.sections) or bitstream.image_size
    except CodingError:
        return bitstream.image_size


def _decode(files: Sequence[Bitstream], codec: Codec) -> Iterator[UnpackedPicture | CodingError]:
    """Decode files; side data only once the latents were verified: they prove that a picture of this size is there."""
    found = read_together(codec, [(file.sections, file.image_size) for file in files])
    x_hats = synthesized(found, [file.image_size for file in files], codec)
    for number, (file, integers) in enumerate(zip(files, found, strict=True)):
        if isinstance(integers, CodingError):
            yield integers
            continue
        try:
            pixel_format = _pixel_format(file)
            further = tuple(further_pictures(codec, integers, file.image_size))
            yield UnpackedPicture(x_hats[number], pixel_format._replace(carried=_carried(integers), further=further))
        except CodingError as error:
            yield error


def synthesized(found: Sequence[Integers | CodingError], sizes: Sequence[ImageSize], codec: Codec) -> dict[int, Tensor]:
    """Return the pictures of those that could be read, by number; equally large ones are made together."""
    by_size: dict[ImageSize, dict[int, Integers]] = {}
    for number, (integers, size) in enumerate(zip(found, sizes, strict=True)):
        if not isinstance(integers, CodingError):
            by_size.setdefault(size, {})[number] = integers
    x_hats: dict[int, Tensor] = {}
    for size, group in by_size.items():
        x_hats |= zip(group, codec.synthesize(list(group.values()), size).split(1), strict=True)
    return x_hats


def _carried(integers: Integers) -> bytes | None:
    return integers[CARRIED].astype(np.uint8).tobytes() if CARRIED in integers else None


def _pixel_format(bitstream: Bitstream) -> PixelFormat:
    alpha, icc = bitstream.alpha, bitstream.icc
    return PixelFormat(
        gray=bitstream.gray,
        alpha=None if alpha is None else torch.from_numpy(unpack_alpha(alpha, bitstream.image_size)),
        icc_profile=None if icc is None else unpack_profile(icc),
    )


def memory_for(image_size: ImageSize) -> AbstractContextManager[None]:
    height, width = image_size
    return as_coding_error(f"not enough memory for a picture of {height}x{width} pixels; decode it where there is more")


def check_one_picture(latents: Latents, alpha: Tensor | None) -> None:
    batches = {name: value.shape[0] for name, value in latents.variables.items() if value.shape[0] != 1}
    if batches:
        raise ValueError(f"a file holds one picture; these latents are of more: {batches}")
    if alpha is not None and tuple(alpha.shape) != tuple(latents.image_size):
        raise ValueError(f"alpha of size {tuple(alpha.shape)} does not cover a picture of {latents.image_size}")
