"""Ways to break a file: each a function of a random generator, the file, and other files it may borrow from.

Those that go through `assemble` compute the header CRC and the section CRCs anew, so that the reader goes on to
what lies behind them; content CRCs stay as they were, because only a decoder could compute them.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]

ALPHA, ICC = 2, 4
LIMITS = (0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 4096, 16384, 65535, 65536, 2**28, 2**32 - 1, 2**35 - 1)
WORDS = (b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0", b"\xff\xff\xff\0")
"""Words of a stack at its limits; an entry decoded from bits that are all 1 is an escape, of the greatest distance."""


class Parts(NamedTuple):
    """A file taken apart. sections: (payload, content CRC as stored); claims: their lengths as the header says."""

    version: int
    codec_id: int
    fingerprint: bytes
    size: tuple[int, int]
    flags: int
    num_sections: int
    claims: list[int]
    sections: list[tuple[bytes, int]]

    def holding(self, sections: Sequence[tuple[bytes, int]]) -> Parts:
        """The same header, made to fit other sections."""
        return self._replace(num_sections=len(sections), claims=[len(s[0]) for s in sections], sections=[*sections])


def take_apart(data: bytes) -> Parts:
    """A valid file -> its parts."""
    position = 16

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte, position = data[position], position + 1
            value, shift = value + (byte % 128 << shift), shift + 7
            if byte < 128:
                return value

    size = (varint(), varint())
    flags, position = data[position], position + 1
    num_sections = varint()
    claims = [varint() for _ in range(num_sections)]
    position += 4
    sections = []
    for length in claims:
        content = struct.unpack_from("<I", data, position + length)[0]
        sections.append((data[position : position + length], content))
        position += length + 8
    return Parts(data[6], data[7], data[8:16], size, flags, num_sections, claims, sections)


def assemble(parts: Parts) -> bytes:
    """The file of these parts, whatever they claim, with a right header CRC and right section CRCs."""
    tails = [payload + struct.pack("<I", content) for payload, content in parts.sections]
    return b"".join((_header(parts), _crc(_header(parts)), *(tail + _crc(tail) for tail in tails)))


def flip_bits(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    mutant = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        mutant[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(mutant)


def overwrite_a_run(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, length = rng.randrange(len(data)), rng.randint(1, 64)
    filler = rng.choice((rng.randbytes(length), bytes(length), b"\xff" * length))
    return (data[:start] + filler + data[start + length :])[: len(data)]


def truncate(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return rng.choice((data[: rng.randrange(len(data))], data[rng.randint(1, len(data)) :]))


def extend(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data + rng.choice((rng.randbytes(rng.randint(1, 300)), bytes(rng.randint(1, 9)), data, rng.choice(others)))


def delete_or_insert_a_run(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, length = rng.randrange(len(data)), rng.randint(1, 32)
    inserted = rng.choice((b"", rng.randbytes(length), data[start : start + length]))
    return data[:start] + inserted + data[start + (0 if inserted else length) :]


def join_two_files(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def borrow_sections(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One section replaced, or added, from another file, its content CRC with it."""
    parts, donor = take_apart(data), take_apart(rng.choice(others))
    sections, place = [*parts.sections], rng.randrange(len(parts.sections))
    sections[place : place + rng.randint(0, 1)] = [rng.choice(donor.sections)]
    flags = rng.choice((parts.flags, donor.flags, parts.flags | ALPHA, parts.flags | ICC))
    return assemble(parts._replace(flags=flags).holding(sections))


def reorder_sections(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Sections in another order, dropped or doubled."""
    parts = take_apart(data)
    return assemble(parts.holding(rng.choices(parts.sections, k=rng.randint(1, len(parts.sections) + 1))))


def change_the_header(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One or two fields at, or just beside, their limits; CRCs right."""
    parts = take_apart(data)
    height, width = parts.size
    for _ in range(rng.randint(1, 2)):
        side = rng.choice((*LIMITS, height - 1 or 1, height + 1, 2 * height, width + 1, 4 * width, 2**28 // width))
        claims = [*parts.claims]
        claims[rng.randrange(len(claims))] = rng.choice((*LIMITS, claims[0] + 1, claims[-1] + 4))
        change = rng.choice(
            (
                {"size": (side, width)},
                {"size": (height, side)},
                {"size": (side, rng.choice(LIMITS))},
                {"size": (width, height)},
                {"claims": claims},
                {"num_sections": rng.choice(LIMITS), "claims": claims * rng.choice((1, 1, 255))},
                {"flags": parts.flags ^ 1 << rng.randrange(8)},
                {"version": rng.randrange(256)},
                {"codec_id": rng.randrange(256)},
                {"fingerprint": rng.randbytes(8)},
            )
        )
        parts = parts._replace(**change)
    return assemble(parts)


def grow_the_picture(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A header that claims a larger picture: twice as many pixels up to as many as the format has room for."""
    parts = take_apart(data)
    height, width = (min(65535, round(side * 2 ** rng.uniform(0.5, 16))) for side in parts.size)
    return assemble(parts._replace(size=(height, min(width, 2**28 // height))))


def change_a_payload(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Bits or words of one section; its CRC right, its content CRC as it was."""
    parts = take_apart(data)
    place = rng.randrange(len(parts.sections))
    payload, content = parts.sections[place]
    start = rng.randrange(len(payload) // 4 or 1) * 4
    changed = rng.choice(
        (
            flip_bits(rng, payload, others),
            payload[:start] + rng.randbytes(4) + payload[start + 4 :],
            payload[:start] + payload[start + 4 :],
            payload[:start] + rng.choice(WORDS) * rng.choice((1, 2, 50)) + payload[start:],
        )
    )
    sections = [*parts.sections]
    sections[place] = (changed, content)
    return assemble(parts.holding(sections))


def change_a_content_crc(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    parts = take_apart(data)
    place = rng.randrange(len(parts.sections))
    payload, content = parts.sections[place]
    parts.sections[place] = (payload, rng.choice((content ^ 1 << rng.randrange(32), 0, rng.getrandbits(32))))
    return assemble(parts)


def escape_everywhere(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A stack of words at their limits under the header of a picture."""
    parts = take_apart(data)
    payload = b"".join(rng.choices(WORDS, (3, 30, 3, 1, 1, 5), k=rng.randint(2, 200)))
    return assemble(parts.holding([*parts.sections[:-1], (payload + rng.choice(WORDS[1:]), rng.getrandbits(32))]))


def blow_up_side_data(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Alpha or a profile that inflates to far more than there are pixels, maybe in a picture that claims as many.

    The codec's section is tied to the new header, so that it is believed and the side data are looked at.
    """
    parts = take_apart(data)
    payload, content = parts.sections[-1]
    alpha = rng.choice(
        (b"\xff\x80", bytes([rng.randrange(5)]) + _bomb(rng), b"\x03" + zlib.compress(rng.randbytes(99)))
    )
    flags = rng.choice((ALPHA, ICC, ALPHA | ICC))
    side_data = [(alpha, rng.getrandbits(32))] * bool(flags & ALPHA) + [(_bomb(rng), 0)] * bool(flags & ICC)
    size = rng.choice((parts.size, (16384, 16384), (65535, 4096), (1, 65535)))
    bomb = parts._replace(flags=flags, size=size).holding([*side_data, (payload, content)])
    bomb.sections[-1] = (payload, content ^ zlib.crc32(_header(parts)) ^ zlib.crc32(_header(bomb)))
    return assemble(bomb)


def make_up_a_file(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Noise behind the magic, behind the fingerprint, or in sections whose CRCs are right."""
    noise = rng.randbytes(rng.randint(0, 400))
    sections = [(rng.randbytes(4 * rng.randint(0, 60)), rng.getrandbits(32)) for _ in range(rng.randint(1, 5))]
    size = (rng.choice(LIMITS), rng.randint(1, 300))
    made_up = take_apart(data)._replace(size=size, flags=rng.randrange(8)).holding(sections)
    return rng.choice((noise, data[:6] + noise, data[:7] + noise, data[:16] + noise, assemble(made_up)))


def pass_for_another_model(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A file of another model, or of other sections, under this file's name of the model and codec."""
    other = take_apart(rng.choice(others))
    own = take_apart(data)
    return assemble(other._replace(fingerprint=own.fingerprint, codec_id=rng.choice((own.codec_id, 0, 2, 255))))


BLIND: tuple[Mutation, ...] = (
    flip_bits,
    overwrite_a_run,
    truncate,
    extend,
    delete_or_insert_a_run,
    join_two_files,
)
"""What disks, cables and careless hands do: no checksum is computed anew."""

INFORMED: tuple[Mutation, ...] = (
    borrow_sections,
    reorder_sections,
    change_the_header,
    grow_the_picture,
    change_a_payload,
    change_a_content_crc,
    escape_everywhere,
    blow_up_side_data,
    make_up_a_file,
    pass_for_another_model,
)
MUTATIONS = BLIND + INFORMED


def _bomb(rng: Random) -> bytes:
    """A zlib stream a thousandth as long as what it inflates to: 1 MB to 1 GB of zeros in a run of full blocks."""
    return b"\x78\xda" + _megabyte() * rng.choice((1, 1, 16, 1024))


@functools.cache
def _megabyte() -> bytes:
    deflate = zlib.compressobj(9, wbits=-15)
    return deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)


def _header(parts: Parts) -> bytes:
    numbers = [_varint(number) for number in (*parts.size, parts.num_sections, *parts.claims)]
    start = b"LPC\r\n\x1a" + bytes([parts.version, parts.codec_id]) + parts.fingerprint
    return start + b"".join(numbers[:2]) + bytes([parts.flags]) + b"".join(numbers[2:])


def _crc(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


def _varint(value: int) -> bytes:
    digits = []
    while value >= 128:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
