"""Bits-back: latents are drawn by decoding bits that are there already, and these bits come back to the receiver.

    sender     pop z under q(z | x);  push x under p(x | z);  push z under p(z)
    receiver   pop z under p(z);      pop x under p(x | z);   push z under q(z | x): the stack is as it was before

So a picture costs -log2 p(x, z) + log2 q(z | x) bits, on average its negative evidence bound (Frey 1997; Townsend,
Bird, Barber 2019). x need not be the picture: it is whatever the receiver knows once it has decoded it.

The bits that are there first are the *initial bits*: words of a seeded generator, or the user's own data. A stack of
them is words, first word on top, under a state that is always the same.
"""

from __future__ import annotations

import math

import numpy as np

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.leaky import Int32s, Rows, spans
from lightning_modules.errors import CodingError, damaged

STATE = bytes.fromhex("c9f2a54be18d37d6")
"""Little-endian, top bit set: as full as a state can be, and with no pattern that a distribution could favour."""

SEED = 0x1BADB002

MOST_BITS = 24
"""What popping one entry takes at most."""


class TooFewBits(CodingError):
    """The stack ran out of initial bits. needed: bits that pops took, and could have taken more."""


def pop(stack: AnsStack, rows: Rows) -> Int32s:
    """Draw (n,) entries from the bits on the stack, one from each row. Raises `TooFewBits`."""
    entries = np.empty(len(rows), dtype=np.int32)
    for start, stop in spans(rows):
        entries[start:stop] = stack.pop_rows(rows.frequencies(start, stop))
        if stack.is_exhausted():
            raise TooFewBits(
                f"too few initial bits: the latents of this picture take up to {most_words(len(rows)) * 4} bytes; "
                "give a longer coder.payload=, or coder.mode=single"
            )
    return entries


def take(stack: AnsStack, rows: Rows) -> Int32s:
    """`pop` for a receiver, to whom a stack that runs out is damage."""
    try:
        return pop(stack, rows)
    except TooFewBits as error:
        raise damaged("the coded data end before the last symbol") from error


def push(stack: AnsStack, entries: Int32s, rows: Rows) -> None:
    """Undo `pop` exactly."""
    for start, stop in reversed(list(spans(rows))):
        stack.push_rows(entries[start:stop], rows.frequencies(start, stop))


def most_words(symbols: int) -> int:
    """Return how many 32-bit words popping so many symbols can take."""
    return math.ceil(symbols * MOST_BITS / 32) + 2


# ---- initial bits


def stack_of(data: bytes) -> AnsStack:
    """Return a stack of given bytes, a multiple of 4."""
    return AnsStack.from_bytes(_words_reversed(data) + STATE)


def bytes_of(stack: AnsStack) -> bytes:
    """Undo `stack_of`. Raises `DamagedFile` for a stack that it does not make."""
    data = stack.to_bytes()
    if data[-len(STATE) :] != STATE:
        raise damaged("the initial bits that bits-back coding gives back are not those it began with")
    return _words_reversed(data[: -len(STATE)])


def seeded_bytes(words: int) -> bytes:
    """Return the first `words` words, 4 bytes each, of the generator Philox4x64 with key `SEED` and counter 0."""
    raw: np.ndarray = np.random.Philox(key=SEED).random_raw(-(-words // 2))
    return raw.astype("<u8").tobytes()[: 4 * words]


def expect_seeded(stack: AnsStack) -> None:
    """DamagedFile unless the stack is `stack_of` seeded bytes, of whatever number."""
    data = bytes_of(stack)
    if data != seeded_bytes(len(data) // 4):
        raise damaged("the initial bits that bits-back coding gives back are not those it began with")


def _words_reversed(data: bytes) -> bytes:
    return np.frombuffer(data, dtype="<u4")[::-1].tobytes()
