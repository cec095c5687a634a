"""Several pictures as one section: equally large ones are coded as one latent of each level.

So schedules, numbers of variables and blocks that are not full are paid once for all of them, and the networks see
them as a batch. A run is what is coded as one: pictures of one size, of no more than RUN_PIXELS together, or a single
one. On the stack, run after run: the levels as of one picture, then for each picture a bit (its channels are equal)
and its pixels.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lightning_modules.coding.ans import AnsStack
from lightning_modules.errors import expect_content
from lightning_modules.image_padding import pad_to_multiple, padded_size
from lightning_modules.rec.files.levels import Cut, Receiver, Sender, cuts
from lightning_modules.rec.files.message_code import MessageBits, push_messages
from lightning_modules.rec.files.settings import Settings, split
from lightning_modules.records import Coded, CodedPack, ImageSize, Integers, Latents, Section

if TYPE_CHECKING:
    from lightning_modules.rec.codec import RecCodec
    from lightning_modules.rec.files.file_coder import FileCoder

RUN_PIXELS = 1 << 18
"""What memory of networks and search is bounded by, and part of the format."""
LN2 = math.log(2.0)


class Run(NamedTuple):
    """Pictures start ... stop - 1 of a pack. size: of each. padded: the same, continued to the stride."""

    start: int
    stop: int
    size: ImageSize
    padded: ImageSize


def runs(sizes: Sequence[ImageSize], stride: int) -> list[Run]:
    """In order; equally large pictures follow each other."""
    found: list[Run] = []
    start = 0
    for (height, width), alike in groupby(sizes):
        many, most = len([*alike]), max(1, RUN_PIXELS // (height * width))
        padded = padded_size((height, width), stride)
        for first in range(start, start + many, most):
            found.append(Run(first, min(first + most, start + many), (height, width), padded))
        start += many
    return found


def encode(codec: RecCodec, images: Sequence[Latents], file_coder: FileCoder) -> CodedPack:
    codec.update()
    planned = list(_planned(codec, [image.image_size for image in images], file_coder.settings))
    stack = AnsStack()
    coded: list[Coded] = []
    marks: list[int] = []
    for run, level_cuts in reversed(planned):
        stack, found, crcs = _push_run(codec, stack, images[run.start : run.stop], file_coder, level_cuts)
        coded, marks = found + coded, crcs + marks
    section = Section(file_coder.settings.to_bytes() + stack.to_bytes(), joint_crc(marks))
    return CodedPack(section, coded)


def read(codec: RecCodec, section: Section, sizes: Sequence[ImageSize]) -> list[Integers]:
    """Raises `DamagedFile`."""
    codec.update()
    settings, words = split(section.payload)
    stack = AnsStack.from_bytes(words)
    found: list[Integers] = []
    for run, level_cuts in _planned(codec, sizes, settings):
        receiver = Receiver(codec.networks, stack, settings, level_cuts)
        state = codec.draw_levels(run.padded, receiver, run.stop - run.start)
        stack = receiver.stack
        for k in range(run.stop - run.start):
            own = settings._replace(gray=bool(stack.pop_uniform(1, 1)[0]))
            found.append(codec.pop_rest(receiver.of_picture(k), state[k : k + 1], own, run.size))
    stack.expect_empty()
    expect_content(joint_crc(codec.crc_of_integers(integers) for integers in found), section.content_crc)
    return found


def joint_crc(crcs: Iterable[int]) -> int:
    """CRC-32 of the pictures' own, 4 bytes each."""
    return zlib.crc32(b"".join(struct.pack("<I", crc) for crc in crcs))


def _planned(codec: RecCodec, sizes: Sequence[ImageSize], settings: Settings) -> Iterator[tuple[Run, list[Cut]]]:
    """Runs, each with the blocks of its levels: no two in a file have the same number."""
    expected, first = codec.require_derived().expected_kl, 0
    for run in runs(sizes, codec.networks.stride):
        count = run.stop - run.start
        latent_sizes = [(count * height, width) for height, width in codec.networks.latent_sizes(run.padded)]
        level_cuts = cuts(expected, latent_sizes, settings, first)
        first = level_cuts[-1].first + level_cuts[-1].layout.num_blocks
        yield run, level_cuts


def _push_run(
    codec: RecCodec, stack: AnsStack, images: Sequence[Latents], file_coder: FileCoder, level_cuts: Sequence[Cut]
) -> tuple[AnsStack, list[Coded], list[int]]:
    """The stack to go on with; costs and checksums of the run's pictures, in their order."""
    x = torch.cat([image.variables["x"] for image in images])
    padded = pad_to_multiple(x, codec.networks.stride)
    sender = Sender(codec.networks, codec.networks.infer(padded), file_coder.index_coder, level_cuts)
    state = codec.draw_levels((padded.shape[-2], padded.shape[-1]), sender, len(images))
    rests: list[dict[str, float]] = []
    for k in reversed(range(len(images))):
        own = codec.settings_for(x[k : k + 1], file_coder.settings)
        rests.append(codec.push_rest(stack, x[k : k + 1], state[k : k + 1], own))
        stack.push_uniform([own.gray], 1)
    stack, costs = push_messages(
        stack,
        [encoded.message for encoded in sender.encoded],
        [cut.expected for cut in level_cuts],
        file_coder.index_coder.schedule,
        file_coder.settings.index_code(),
    )
    shares = _shares(sender, costs)
    coded = [_coded(codec, *each) for each in zip(images, shares, reversed(rests), strict=True)]
    return stack, coded, [codec.crc_of(x[k : k + 1], _alone(sender, k)) for k in range(len(images))]


def _alone(sender: Sender, number: int) -> list[object]:
    return [replace(encoded, z=encoded.z[number : number + 1]) for encoded in sender.encoded]


def _shares(sender: Sender, costs: Sequence[MessageBits]) -> list[dict[str, float]]:
    """Accounts of each picture: of the indices as much as it has of the level's KL, of the rest an equal share."""
    count = len(sender.kl[0])
    indices = torch.zeros(count, dtype=torch.float64)
    for kl, cost in zip(sender.kl, costs, strict=True):
        indices += cost.indices * (kl / kl.sum() if float(kl.sum()) > 0 else torch.full_like(kl, 1.0 / count)).cpu()
    columns = {
        "kl": _sums(sender.kl) / LN2,
        "log_ratio": _sums(sender.log_ratio) / LN2,
        "indices": indices,
        "counts": torch.full_like(indices, sum(cost.counts for cost in costs) / count),
        "schedules": torch.full_like(indices, sum(cost.schedules for cost in costs) / count),
    }
    return [{name: float(column[k]) for name, column in columns.items()} for k in range(count)]


def _sums(levels: Sequence[Tensor]) -> Tensor:
    return torch.stack([*levels]).sum(0).cpu()


def _coded(codec: RecCodec, latents: Latents, share: dict[str, float], rest: dict[str, float]) -> Coded:
    of_latents = share["schedules"] + share["counts"] + share["indices"]
    accounts = share | {"bound": codec.bound(latents)} | rest
    return Coded([], {"latents": of_latents, **rest}, accounts)
