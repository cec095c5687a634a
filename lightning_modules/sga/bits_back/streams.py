"""The ways from pictures to sections, which differ in where initial bits come from and which file keeps which words.

A chain is one stack. The words that coding a picture leaves below all later pops are final; they, and only they, are in
its file, so that the files together are the stack. The last one holds the state as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lightning_modules.coding import bits_back
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.bits_back import TooFewBits
from lightning_modules.coding.bits_back_chain import shares
from lightning_modules.records import Coded, Section
from lightning_modules.sga.bits_back.picture_order import Written, crc_of
from lightning_modules.sga.bits_back.section_header import Mode


class Picture(NamedTuple):
    """A picture to code. write: pushes it onto a stack, z in steps of 2^-fineness, in a mode. symbols: number of z."""

    write: Callable[[AnsStack, int, Mode], Written]
    symbols: int


def single(picture: Picture, fineness: int) -> Coded:
    """Code one picture under as many seeded words as its pops take: the honest price of one picture."""
    stack = bits_back.stack_of(bits_back.seeded_bytes(bits_back.most_words(picture.symbols)))
    initial = stack.bits
    written = picture.write(stack, fineness, Mode.SINGLE)
    words = stack.to_bytes()[4 * written.low :]
    return _coded(written, words, initial - 32.0 * written.low)


def with_payload(picture: Picture, fineness: int, data: bytes) -> Coded:
    """Code one picture under the user's data, padded to whole words. Raises `TooFewBits`."""
    stack = bits_back.stack_of(data + bytes(-len(data) % 4))
    initial = stack.bits
    written = picture.write(stack, fineness, Mode.PAYLOAD)
    settings = written.settings._replace(payload_bytes=len(data))
    return _coded(written._replace(settings=settings), stack.to_bytes(), initial)


def chained(pictures: Sequence[Picture], first: int, others: int) -> list[Coded]:
    """Code pictures one after the other onto one stack; only the first takes seeded words. first, others: fineness."""
    words = sum(bits_back.most_words(picture.symbols) for picture in pictures)
    stack = bits_back.stack_of(bits_back.seeded_bytes(words))
    initial, all_written = stack.bits, []
    for k, picture in enumerate(pictures):
        all_written.append(picture.write(stack, others if k else first, Mode.CHAINED))
    floor = min(written.low for written in all_written)
    coded = []
    for k, (written, share) in enumerate(
        zip(all_written, shares(stack, [one.low for one in all_written]), strict=True)
    ):
        paid = initial - 32.0 * floor if k == 0 else 0.0
        coded.append(_coded(written._replace(settings=written.settings._replace(link=share.link)), share.words, paid))
    return coded


def _coded(written: Written, words: bytes, initial: float) -> Coded:
    section = Section(written.settings.to_bytes() + words, crc_of(written.integers))
    accounts = {"net_estimated": sum(written.bits.values()), "net": written.net, "initial": initial}
    return Coded([section], written.bits, accounts)


__all__ = ["Picture", "TooFewBits", "chained", "single", "with_payload"]
