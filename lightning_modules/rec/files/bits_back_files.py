"""Sections of bits-back coding: of a picture by itself, of each picture of a chain, or of a pack on one stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_modules.coding import bits_back
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.bits_back import TooFewBits
from lightning_modules.coding.bits_back_chain import Share, joined, shares
from lightning_modules.errors import CodingError, damaged, expect_content
from lightning_modules.image_padding import ceil_div, pad_to_multiple, padded_size
from lightning_modules.rec.files.bits_back import GridModel, PictureBits, read, write
from lightning_modules.rec.files.sample_files import Contents, checksum, joint_crc, size_of
from lightning_modules.rec.files.settings import BitsBackSettings, is_back, split_back
from lightning_modules.rec.models.integer_networks import ReceiverState
from lightning_modules.rec.models.resnet_vae import ResNetVAE
from lightning_modules.records import Chain, Coded, CodedPack, ImageSize, Integers, Section

SPARE_WORDS = 64
"""Seeded words beyond what draws take if posteriors say nothing."""


class PictureSection(NamedTuple):
    """One picture's section, taken apart."""

    settings: BitsBackSettings
    words: bytes
    content_crc: int
    size: ImageSize

    @classmethod
    def of(cls, section: Section, size: ImageSize) -> PictureSection:
        """Take a section apart. Raises `DamagedFile`."""
        return cls(*split_back(section.payload), section.content_crc, size)


def chain_of(sections: Sequence[Section]) -> Chain | None:
    """Return the chain that a file belongs to, None for one that is read by itself. Raises `DamagedFile`."""
    if not sections or not is_back(sections[0].payload):
        return None
    link = split_back(sections[0].payload)[0].link
    return None if link is None else Chain(link.mark, link.length)


class BitsBackFiles:
    """Writes and reads sections of one model. pixels: how they go onto the stack; other arguments as `SampleFiles`.

    In all methods, pictures are (1, 3, H, W), and bounds are bits that each is to be compared with.
    """

    def __init__(self, networks: ResNetVAE, receiver: ReceiverState, pixels: Contents) -> None:
        self._networks, self._receiver, self._pixels = networks, receiver, pixels

    def write(self, x: Tensor, bound: float, cell_bits: int) -> Coded:
        """Code a picture by itself, with seeded initial bits. cell_bits: a latent has 2^cell_bits cells."""
        stack, (cost,), paid = self._push_all([x], cell_bits)
        words = stack.to_bytes()[4 * cost.low :]
        section = self._section(x, BitsBackSettings(cell_bits, self._pixels.is_gray(x)), words)
        return _coded([section], cost, paid, bound)

    def write_chain(self, pictures: Sequence[Tensor], bounds: Sequence[float], cell_bits: int) -> list[Coded]:
        """Code pictures on one stack, of which each file holds a part."""
        stack, costs, paid = self._push_all(pictures, cell_bits)
        parts = shares(stack, [cost.low for cost in costs])
        found = []
        for number, (x, cost, bound, part) in enumerate(zip(pictures, costs, bounds, parts, strict=True)):
            settings = BitsBackSettings(cell_bits, self._pixels.is_gray(x), part.link)
            section = self._section(x, settings, part.words)
            found.append(_coded([section], cost, 0.0 if number else paid, bound))
        return found

    def write_pack(self, pictures: Sequence[Tensor], bounds: Sequence[float], cell_bits: int) -> CodedPack:
        """Code a chain in one section; before its words, a bit of each picture says whether its channels are equal."""
        stack, costs, paid = self._push_all(pictures, cell_bits)
        words = stack.to_bytes()[4 * min(cost.low for cost in costs) :]
        crcs = [checksum(self._pixels.known(x, [])) for x in pictures]
        grays = np.packbits([self._pixels.is_gray(x) for x in pictures]).tobytes()
        section = Section(BitsBackSettings(cell_bits, gray=False).to_bytes() + grays + words, joint_crc(crcs))
        first = [paid, *[0.0] * (len(pictures) - 1)]
        return CodedPack(section, [_coded([], *each) for each in zip(costs, first, bounds, strict=True)])

    def read(self, section: Section, size: ImageSize) -> Integers:
        """Return the pixels of a picture that is coded by itself. Raises `CodingError`."""
        picture = PictureSection.of(section, size)
        if picture.settings.link is not None:
            raise CodingError("one of a chain, which decodes as a whole; give the whole folder to one process")
        stack = AnsStack.from_bytes(picture.words)
        integers = self._pop_checked(stack, picture)
        bits_back.expect_seeded(stack)
        return integers

    def read_chain(self, members: Mapping[int, PictureSection]) -> dict[int, Integers | CodingError]:
        """Return the pixels of a chain's pictures by their numbers, or the same error for all of them."""
        links = {number: picture.settings.link for number, picture in members.items() if picture.settings.link}
        try:
            stack = joined([Share(links[number], picture.words) for number, picture in members.items()])
            order = sorted(members, key=lambda number: -links[number].place)  # the last picture is on top
            found: dict[int, Integers | CodingError] = {}
            for number in order:
                found[number] = self._pop_checked(stack, members[number])
            bits_back.expect_seeded(stack)
            return found
        except CodingError as error:
            return dict.fromkeys(members, error)

    def read_pack(self, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
        """Return the pixels of each picture of a pack: the last one comes off the stack first. Raises `DamagedFile`."""
        settings, rest = split_back(section.payload)
        length = ceil_div((len(sizes), 1), 8)[0]
        grays = np.unpackbits(np.frombuffer(rest[:length], dtype=np.uint8))
        if settings.link is not None or len(rest) < length:
            raise damaged("a bits-back section of several pictures is not as written")
        stack = AnsStack.from_bytes(rest[length:])
        found = [
            self._pop(stack, settings._replace(gray=bool(grays[k])), sizes[k]) for k in reversed(range(len(sizes)))
        ][::-1]
        bits_back.expect_seeded(stack)
        expect_content(joint_crc(checksum(integers) for integers in found), section.content_crc)
        return found

    def _push_all(self, pictures: Sequence[Tensor], cell_bits: int) -> tuple[AnsStack, list[PictureBits], float]:
        """Push onto as many seeded words as it takes; return the stack, costs, and the seeded bits that stay."""
        model = GridModel(self._networks, self._receiver.integer_networks, cell_bits)
        height, width = ceil_div(size_of(pictures[0]), self._networks.stride)
        words = SPARE_WORDS + cell_bits * sum(self._networks.channels) * height * width // 32
        while True:
            stack = bits_back.stack_of(bits_back.seeded_bytes(words))
            initial = stack.bits
            try:
                costs = [self._push(stack, model, x) for x in pictures]
                return stack, costs, initial - 32.0 * min(cost.low for cost in costs)
            except TooFewBits:
                words *= 2

    def _push(self, stack: AnsStack, model: GridModel, x: Tensor) -> PictureBits:
        gray, values = self._pixels.is_gray(x), (pad_to_multiple(x, self._networks.stride) * 255.0).round()
        return write(stack, model, values, lambda state: self._pixels.push(stack, x, state, gray))

    def _section(self, x: Tensor, settings: BitsBackSettings, words: bytes) -> Section:
        return Section(settings.to_bytes() + words, checksum(self._pixels.known(x, [])))

    def _pop_checked(self, stack: AnsStack, picture: PictureSection) -> Integers:
        found = self._pop(stack, picture.settings, picture.size)
        expect_content(checksum(found), picture.content_crc)
        return found

    def _pop(self, stack: AnsStack, settings: BitsBackSettings, size: ImageSize) -> Integers:
        popped: list[Integers] = []

        def pop_pixels(state: Tensor) -> Tensor:
            popped.append(self._pixels.pop(stack, [], state, settings.gray, size))
            values = torch.from_numpy(np.ascontiguousarray(popped[0]["x"], dtype=np.float32))
            return pad_to_multiple(values[None], self._networks.stride).to(state.device)

        model = GridModel(self._networks, self._receiver.integer_networks, settings.bits)
        device = next(self._networks.parameters()).device
        read(stack, model, padded_size(size, self._networks.stride), device, pop_pixels)
        return popped[0]


def _coded(sections: list[Section], cost: PictureBits, paid: float, bound: float) -> Coded:
    accounts = {"net": sum(cost.bits.values()), "initial": paid, "bound": bound}
    return Coded(sections, {**cost.bits, "initial": paid}, accounts)
