"""Files of samples: sections that hold the latents of one picture, or of several, and what pixels need besides.

Equally large pictures of one file are coded as one latent of each level. So schedules, numbers of variables and blocks
that are not full are paid once for all of them, and the networks see them as a batch. A run is what is coded as one:
pictures of one size, of no more than RUN_PIXELS in sum, or a single one. On the stack of a pack, run after run: the
levels as of one picture, then for each picture a bit (its channels are equal) and its pixels.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.container import content_crc
from lightning_modules.errors import expect_content
from lightning_modules.image_padding import pad_to_multiple, padded_size
from lightning_modules.rec.files.file_coder import FileCoder
from lightning_modules.rec.files.levels import LevelBlocks, Receiver, Sender, level_blocks
from lightning_modules.rec.files.message_code import push_messages
from lightning_modules.rec.files.settings import SampleSettings, split
from lightning_modules.rec.models.hierarchy import Hierarchy
from lightning_modules.rec.models.integer_networks import ReceiverState
from lightning_modules.records import Coded, CodedPack, ImageSize, Integers, Section

RUN_PIXELS = 1 << 18
"""Bounds the memory of networks and search; part of the format."""
LN2 = math.log(2.0)


class Contents(Protocol):
    """The contents of a file besides samples of latents, and all that its receiver knows in the end."""

    def is_gray(self, x: Tensor) -> bool:
        """Return whether one channel of a picture (1, 3, H, W) is coded for all."""

    def push(self, stack: AnsStack, x: Tensor, state: Tensor, gray: bool) -> dict[str, float]:
        """Put one picture on the stack, given the state that its latents make; return its cost in bits by name."""

    def pop(self, stack: AnsStack, z: Sequence[Tensor], state: Tensor, gray: bool, size: ImageSize) -> Integers:
        """Take it off again. z: (1, C, h, w) of each level. Raises `DamagedFile`."""

    def known(self, x: Tensor, z: Sequence[Tensor]) -> Integers:
        """Return what `pop` will give a receiver, computed by the sender."""


class Run(NamedTuple):
    """Pictures start ... stop - 1 of a file. size: of each. padded: the same, continued to the stride."""

    start: int
    stop: int
    size: ImageSize
    padded: ImageSize


def runs(sizes: Sequence[ImageSize], stride: int) -> list[Run]:
    """Group pictures, in their order: equally large ones that follow each other."""
    found: list[Run] = []
    start = 0
    for (height, width), alike in groupby(sizes):
        many, most = len([*alike]), max(1, RUN_PIXELS // (height * width))
        padded = padded_size((height, width), stride)
        for first in range(start, start + many, most):
            found.append(Run(first, min(first + most, start + many), (height, width), padded))
        start += many
    return found


class SampleFiles:
    """Writes and reads the sections of one model.

    networks: the model, for inference. receiver: what its receivers compute with. contents: what they get besides z.
    """

    def __init__(self, networks: Hierarchy, receiver: ReceiverState, contents: Contents) -> None:
        self._networks, self._receiver, self._contents = networks, receiver, contents

    def write(self, x: Tensor, file_coder: FileCoder, bound: float) -> Coded:
        """Code one picture (1, 3, H, W). bound: bits that its file is to be compared with."""
        settings = file_coder.settings._replace(gray=self._contents.is_gray(x))
        ((_, layouts),) = self._planned([size_of(x)], settings)
        sender, state = self._drawn(x, file_coder, layouts)
        stack = AnsStack()
        rest = self._contents.push(stack, x, state, settings.gray)
        stack, (share,) = _push_levels(stack, sender, file_coder, layouts)
        crc = checksum(self._contents.known(x, sender.drawn))
        coded = _coded(share, bound, rest)
        return coded._replace(sections=[Section(settings.to_bytes() + stack.to_bytes(), crc)])

    def write_pack(self, pictures: Sequence[Tensor], file_coder: FileCoder, bounds: Sequence[float]) -> CodedPack:
        """Code several pictures as one section."""
        stack = AnsStack()
        coded: list[Coded] = []
        crcs: list[int] = []
        for run, layouts in reversed(list(self._planned([size_of(x) for x in pictures], file_coder.settings))):
            of_run = slice(run.start, run.stop)
            x = torch.cat([*pictures[of_run]])
            sender, state = self._drawn(x, file_coder, layouts)
            rests: list[dict[str, float]] = []
            for k in reversed(range(len(x))):
                gray = self._contents.is_gray(x[k : k + 1])
                rests.append(self._contents.push(stack, x[k : k + 1], state[k : k + 1], gray))
                stack.push_uniform([gray], 1)
            stack, shares = _push_levels(stack, sender, file_coder, layouts)
            coded = [_coded(*each) for each in zip(shares, bounds[of_run], reversed(rests), strict=True)] + coded
            alone = ([z[k : k + 1] for z in sender.drawn] for k in range(len(x)))
            crcs = [checksum(self._contents.known(x[k : k + 1], z)) for k, z in enumerate(alone)] + crcs
        section = Section(file_coder.settings.to_bytes() + stack.to_bytes(), joint_crc(crcs))
        return CodedPack(section, coded)

    def read(self, section: Section, size: ImageSize) -> Integers:
        """Return all that one picture's section holds. Raises `DamagedFile`."""
        settings, words = split(section.payload)
        ((run, layouts),) = self._planned([size], settings)
        receiver = Receiver(self._networks, AnsStack.from_bytes(words), settings, layouts)
        state = self._generate(run.padded, receiver, 1)
        integers = self._contents.pop(receiver.stack, receiver.drawn, state, settings.gray, size)
        receiver.stack.expect_empty()
        expect_content(checksum(integers), section.content_crc)
        return integers

    def read_pack(self, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
        """Return what each picture of a pack's section holds. Raises `DamagedFile`."""
        settings, words = split(section.payload)
        stack = AnsStack.from_bytes(words)
        found: list[Integers] = []
        for run, layouts in self._planned(sizes, settings):
            receiver = Receiver(self._networks, stack, settings, layouts)
            state = self._generate(run.padded, receiver, run.stop - run.start)
            stack = receiver.stack
            for k in range(run.stop - run.start):
                gray, z = bool(stack.pop_uniform(1, 1)[0]), [z[k : k + 1] for z in receiver.drawn]
                found.append(self._contents.pop(stack, z, state[k : k + 1], gray, run.size))
        stack.expect_empty()
        expect_content(joint_crc(checksum(integers) for integers in found), section.content_crc)
        return found

    def _planned(self, sizes: Sequence[ImageSize], settings: SampleSettings) -> Iterator[tuple[Run, list[LevelBlocks]]]:
        """Yield runs, each with the blocks of its levels: no two in a file have the same number."""
        first = 0
        for run in runs(sizes, self._networks.stride):
            count = run.stop - run.start
            latent_sizes = [(count * height, width) for height, width in self._networks.latent_sizes(run.padded)]
            layouts = level_blocks(self._receiver.expected_kl, latent_sizes, settings, first)
            first = layouts[-1].first + layouts[-1].layout.num_blocks
            yield run, layouts

    def _drawn(self, x: Tensor, file_coder: FileCoder, layouts: Sequence[LevelBlocks]) -> tuple[Sender, Tensor]:
        """Return a sender that has coded all levels of equally large pictures, and the state they make."""
        padded = pad_to_multiple(x, self._networks.stride)
        sender = Sender(self._networks, self._networks.infer(padded), file_coder.index_coder, layouts)
        return sender, self._generate(size_of(padded), sender, len(x))

    def _generate(self, size: ImageSize, draw: Sender | Receiver, count: int) -> Tensor:
        like = torch.zeros(count, 1, dtype=torch.float64, device=next(self._networks.parameters()).device)
        return self._networks.generate(self._receiver.integer_networks, like, size, draw)


def checksum(integers: Integers) -> int:
    """Return the CRC-32 of all that a receiver knows of one picture."""
    return content_crc(*(integers[name] for name in sorted(integers)))


def joint_crc(crcs: Iterable[int]) -> int:
    """Return the CRC-32 of the pictures' own, 4 bytes each."""
    return zlib.crc32(b"".join(struct.pack("<I", crc) for crc in crcs))


def _push_levels(
    stack: AnsStack, sender: Sender, file_coder: FileCoder, layouts: Sequence[LevelBlocks]
) -> tuple[AnsStack, list[dict[str, float]]]:
    """Put a run's messages on the stack; return the stack to go on with, and accounts of each picture.

    Of the indices a picture has as much as it has of the level's KL, of the rest an equal share.
    """
    stack, costs = push_messages(
        stack,
        sender.messages,
        [level.expected for level in layouts],
        file_coder.index_coder.schedule,
        file_coder.settings.index_code(),
    )
    count = len(sender.kl[0])
    indices = torch.zeros(count, dtype=torch.float64)
    for kl, cost in zip(sender.kl, costs, strict=True):
        indices += cost.indices * (kl / kl.sum() if float(kl.sum()) > 0 else torch.full_like(kl, 1.0 / count)).cpu()
    columns = {
        "kl": torch.stack(sender.kl).sum(0).cpu() / LN2,
        "log_ratio": torch.stack(sender.log_ratio).sum(0).cpu() / LN2,
        "indices": indices,
        "counts": torch.full_like(indices, sum(cost.counts for cost in costs) / count),
        "schedules": torch.full_like(indices, sum(cost.schedules for cost in costs) / count),
    }
    return stack, [{name: float(column[k]) for name, column in columns.items()} for k in range(count)]


def _coded(share: dict[str, float], bound: float, rest: dict[str, float]) -> Coded:
    of_latents = share["schedules"] + share["counts"] + share["indices"]
    return Coded([], {"latents": of_latents, **rest}, share | {"bound": bound} | rest)


def size_of(x: Tensor) -> ImageSize:
    """Return height and width of pictures (..., H, W)."""
    return x.shape[-2], x.shape[-1]
