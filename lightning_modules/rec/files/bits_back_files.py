"""Pictures to sections by bits-back coding, and back: each by itself, or all as a chain on one stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_modules.coding import bits_back
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.bits_back import TooFewBits
from lightning_modules.coding.bits_back_chain import Share, joined, shares
from lightning_modules.errors import CodingError, damaged, expect_content
from lightning_modules.image_padding import ceil_div, pad_to_multiple, padded_size
from lightning_modules.rec.files.bits_back import Hierarchical, Pushed, read, write
from lightning_modules.rec.files.packs import joint_crc
from lightning_modules.rec.files.settings import BackSettings, is_back, split_back
from lightning_modules.rec.models.pixel_likelihood import is_gray
from lightning_modules.records import Chain, Coded, CodedPack, ImageSize, Integers, Latents, Section

if TYPE_CHECKING:
    from lightning_modules.rec.lossless_codec import LosslessCodec

SPARE_WORDS = 64
"""Of the seeded words, beyond what draws take if posteriors say nothing."""


def encode_back(codec: LosslessCodec, images: Sequence[Latents], mode: str, cell_bits: int) -> list[Coded]:
    """mode: single or chained. cell_bits: a latent has 2^cell_bits cells of equal prior mass."""
    codec.update()
    if mode == "single":
        return [coded for image in images for coded in _encode(codec, [image], cell_bits, is_chain=False)]
    if mode == "chained":
        return _encode(codec, images, cell_bits, is_chain=True)
    raise CodingError(f"coder.mode={mode}: lossless models of relative entropy coding have single and chained")


def encode_back_pack(codec: LosslessCodec, images: Sequence[Latents], cell_bits: int) -> CodedPack:
    """A chain in one section; before its words a bit of each picture, whether its channels are equal."""
    codec.update()
    stack, pushed, paid = _push_all(codec, images, cell_bits)
    words = stack.to_bytes()[4 * min(one.low for one in pushed) :]
    crcs = [codec.crc_of(latents.variables["x"], []) for latents in images]
    grays = np.packbits([is_gray(latents.variables["x"]) for latents in images]).tobytes()
    section = Section(BackSettings(cell_bits, gray=False).to_bytes() + grays + words, joint_crc(crcs))
    first = [paid, *[0.0] * (len(images) - 1)]
    return CodedPack(section, [_costs(codec, *each) for each in zip(images, pushed, first, strict=True)])


def _push_all(codec: LosslessCodec, images: Sequence[Latents], cell_bits: int) -> tuple[AnsStack, list[Pushed], float]:
    """On one stack of as many seeded words as it takes; the bits of these that stay in the file."""
    words = SPARE_WORDS + cell_bits * _dimensions(codec, images[0].image_size) // 32
    while True:
        stack = bits_back.stack_of(bits_back.seeded_bytes(words))
        initial = stack.bits
        try:
            pushed = [_push(codec, stack, latents.variables["x"], cell_bits) for latents in images]
            return stack, pushed, initial - 32.0 * min(one.low for one in pushed)
        except TooFewBits:
            words *= 2


def _encode(codec: LosslessCodec, images: Sequence[Latents], cell_bits: int, is_chain: bool) -> list[Coded]:
    stack, pushed, paid = _push_all(codec, images, cell_bits)
    found = []
    for number, (latents, one, share) in enumerate(
        zip(images, pushed, shares(stack, [one.low for one in pushed]), strict=True)
    ):
        x = latents.variables["x"]
        head = BackSettings(cell_bits, is_gray(x), share.link if is_chain else None)
        section = Section(head.to_bytes() + share.words, codec.crc_of(x, []))
        found.append(_costs(codec, latents, one, 0.0 if number else paid)._replace(sections=[section]))
    return found


def _costs(codec: LosslessCodec, latents: Latents, pushed: Pushed, paid: float) -> Coded:
    """Without sections."""
    accounts = {"net": sum(pushed.bits.values()), "initial": paid, "bound": codec.bound(latents)}
    return Coded([], {**pushed.bits, "initial": paid}, accounts)


def _push(codec: LosslessCodec, stack: AnsStack, x: Tensor, cell_bits: int) -> Pushed:
    values = (pad_to_multiple(x, codec.networks.stride) * 255.0).round()
    model = Hierarchical(codec.networks, codec.require_derived().pieces, cell_bits)
    return write(stack, model, values, lambda state: codec.push_pixels(stack, x, state, is_gray(x)))


# ---- reading


class File(NamedTuple):
    """One picture's section, taken apart."""

    settings: BackSettings
    words: bytes
    content_crc: int
    size: ImageSize


def chain_of(sections: Sequence[Section]) -> Chain | None:
    """The chain that a file is of, if it is."""
    if not sections or not is_back(sections[0].payload):
        return None
    link = split_back(sections[0].payload)[0].link
    return None if link is None else Chain(link.mark, link.length)


def read_files(
    codec: LosslessCodec, files: Sequence[tuple[Sequence[Section], ImageSize]]
) -> list[Integers | CodingError]:
    """Files of any kind that the codec makes, each one's integers or what is wrong with it."""
    found: dict[int, Integers | CodingError] = {}
    chains: dict[int, dict[int, File]] = {}
    for number, (sections, size) in enumerate(files):
        try:
            if not sections or not is_back(sections[0].payload):
                (found[number],) = codec.read_integers([sections], size)
                continue
            file = File(*split_back(sections[0].payload), sections[0].content_crc, size)
            if file.settings.link is not None:
                chains.setdefault(file.settings.link.mark, {})[number] = file
            else:
                found[number] = read_alone(codec, sections[0], size)
        except CodingError as error:
            found[number] = error
    for members in chains.values():
        found |= _read_chain(codec, members)
    return [found[number] for number in range(len(files))]


def read_pack(codec: LosslessCodec, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
    """What `encode_back_pack` was given: the last picture comes off the stack first. Raises `DamagedFile`."""
    codec.update()
    settings, rest = split_back(section.payload)
    length = ceil_div((len(sizes), 1), 8)[0]
    grays = np.unpackbits(np.frombuffer(rest[:length], dtype=np.uint8))
    if settings.link is not None or len(rest) < length:
        raise damaged("a bits-back section of several pictures is not as written")
    stack = AnsStack.from_bytes(rest[length:])
    found = [
        _popped(codec, stack, settings._replace(gray=bool(grays[k])), sizes[k]) for k in reversed(range(len(sizes)))
    ][::-1]
    bits_back.expect_seeded(stack)
    expect_content(joint_crc(codec.crc_of_integers(integers) for integers in found), section.content_crc)
    return found


def read_alone(codec: LosslessCodec, section: Section, size: ImageSize) -> Integers:
    """A picture that is coded by itself. Raises `CodingError`."""
    settings, words = split_back(section.payload)
    if settings.link is not None:
        raise CodingError("one of a chain, which decodes as a whole; give the whole folder to one process")
    stack = AnsStack.from_bytes(words)
    integers = _pop(codec, stack, File(settings, words, section.content_crc, size))
    bits_back.expect_seeded(stack)
    return integers


def _read_chain(codec: LosslessCodec, members: dict[int, File]) -> dict[int, Integers | CodingError]:
    """Last picture first; a fault anywhere is a fault of all."""
    links = {number: file.settings.link for number, file in members.items() if file.settings.link is not None}
    try:
        stack = joined([Share(links[number], file.words) for number, file in members.items()])
        order = sorted(members, key=lambda number: -links[number].place)
        found: dict[int, Integers | CodingError] = {number: _pop(codec, stack, members[number]) for number in order}
        bits_back.expect_seeded(stack)
        return found
    except CodingError as error:
        return dict.fromkeys(members, error)


def _pop(codec: LosslessCodec, stack: AnsStack, file: File) -> Integers:
    """One picture off the stack, with its checksum."""
    found = _popped(codec, stack, file.settings, file.size)
    expect_content(codec.crc_of_integers(found), file.content_crc)
    return found


def _popped(codec: LosslessCodec, stack: AnsStack, settings: BackSettings, size: ImageSize) -> Integers:
    stride, found = codec.networks.stride, {}

    def popped(state: Tensor) -> Tensor:
        found["x"] = codec.pop_pixels(stack, state, settings.gray, size)
        values = torch.from_numpy(np.ascontiguousarray(found["x"], dtype=np.float32))
        return pad_to_multiple(values[None], stride).to(state.device)

    model = Hierarchical(codec.networks, codec.require_derived().pieces, settings.bits)
    read(stack, model, padded_size(size, stride), next(codec.parameters()).device, popped)
    return found


def _dimensions(codec: LosslessCodec, size: ImageSize) -> int:
    height, width = ceil_div(size, codec.networks.stride)
    return sum(codec.networks.channels) * height * width
