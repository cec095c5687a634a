"""Pictures to sections by bits-back coding, and back: each by itself, or all as a chain on one stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_modules.codec import Chain, Coded, CodingError, ImageSize, Integers, Latents, Section
from lightning_modules.coding import bits_back
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.bits_back import TooFewBits
from lightning_modules.coding.bits_back_chain import Share, joined, shares
from lightning_modules.coding.damage import damaged
from lightning_modules.image_padding import ceil_div, pad_to_multiple
from lightning_modules.precision import full_precision
from lightning_modules.rec.back_coding import Hierarchical, Pushed, read, write
from lightning_modules.rec.settings import BackSettings, is_back, split_back

if TYPE_CHECKING:
    from lightning_modules.rec.lossless_codec import LosslessCodec

CELL_BITS = 6
"""A latent has 2^CELL_BITS cells of equal prior mass: the net rate hardly falls with more, the initial bits rise."""
SPARE_WORDS = 64
"""Of the seeded words, beyond what draws take if posteriors say nothing."""


@full_precision
def encode_back(codec: LosslessCodec, images: Sequence[Latents], mode: str) -> list[Coded]:
    """mode: single or chained."""
    codec.update()
    if mode == "single":
        return [coded for image in images for coded in _encode(codec, [image], is_chain=False)]
    if mode == "chained":
        return _encode(codec, images, is_chain=True)
    raise CodingError(f"coder.mode={mode}: lossless models of relative entropy coding have single and chained")


def _encode(codec: LosslessCodec, images: Sequence[Latents], is_chain: bool) -> list[Coded]:
    """On one stack of as many seeded words as it takes."""
    words = SPARE_WORDS + CELL_BITS * _dimensions(codec, images[0].image_size) // 32
    while True:
        stack = bits_back.stack_of(bits_back.seeded_bytes(words))
        initial = stack.bits
        try:
            pushed = [_push(codec, stack, latents.variables["x"]) for latents in images]
            break
        except TooFewBits:
            words *= 2
    paid = initial - 32.0 * min(one.low for one in pushed)
    found = zip(images, pushed, shares(stack, [one.low for one in pushed]), strict=True)
    return [_coded(codec, *each, is_chain, 0.0 if share_number else paid) for share_number, each in enumerate(found)]


def _coded(codec: LosslessCodec, latents: Latents, pushed: Pushed, share: Share, is_chain: bool, paid: float) -> Coded:
    x = latents.variables["x"]
    head = BackSettings(CELL_BITS, _is_gray(x), share.link if is_chain else None)
    section = Section(head.to_bytes() + share.words, codec.crc_of(x, []))
    accounts = {"net": sum(pushed.bits.values()), "initial": paid, "bound": codec.bound(latents)}
    return Coded([section], {**pushed.bits, "initial": paid}, accounts)


def _push(codec: LosslessCodec, stack: AnsStack, x: Tensor) -> Pushed:
    values = (pad_to_multiple(x, codec.networks.stride) * 255.0).round()
    model = Hierarchical(codec.networks, codec.require_derived().pieces, CELL_BITS)
    return write(stack, model, values, lambda state: codec.push_pixels(stack, x, state, _is_gray(x)))


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
    """One picture off the stack."""
    stride, found = codec.networks.stride, {}

    def popped(state: Tensor) -> Tensor:
        found["x"] = codec.pop_pixels(stack, state, file.settings.gray, file.size)
        values = torch.from_numpy(np.ascontiguousarray(found["x"], dtype=np.float32))
        return pad_to_multiple(values[None], stride).to(state.device)

    model = Hierarchical(codec.networks, codec.require_derived().pieces, file.settings.bits)
    height, width = ceil_div(file.size, stride)
    read(stack, model, (height * stride, width * stride), next(codec.parameters()).device, popped)
    if codec.crc_of_integers(found) != file.content_crc:
        raise damaged("it decodes to other values than were coded")
    return found


def _dimensions(codec: LosslessCodec, size: ImageSize) -> int:
    height, width = ceil_div(size, codec.networks.stride)
    return sum(codec.networks.channels) * height * width


def _is_gray(x: Tensor) -> bool:
    return bool((x[:, :1] == x).all())
