"""Feeds broken files to `unpack`, in a process of its own, and prints as JSON what became of them.

    python -m tests.lightning_modules.coding.fuzz_campaign MUTANTS_PER_KIND

Its own process, because a crash must not take the other tests with it, and because memory is measured by the
kernel's high-water mark (VmHWM), which sees every allocation, numpy's, torch's and the coder's. Blocks of more
than 64 kB have to be mapped one by one for that, so that no freed block is used again unseen: the caller sets
MALLOC_MMAP_THRESHOLD_=65536.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import lightning_modules.checkpoints
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.codec import Codec
from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.container import read
from lightning_modules.coding.picture import model_fingerprint, pack, unpack
from lightning_modules.coding.tables import CodingTables
from lightning_modules.errors import CodingError
from lightning_modules.records import PixelFormat
from tests.lightning_modules.coding.mutations import MUTATIONS, Mutation, Parts, assemble, take_apart

MODELS = Path(str(lightning_modules.checkpoints.__file__)).parent
LARGEST = (256, 384)
CLAIM = (1024, 1024)

Decoded = tuple[Tensor, PixelFormat]


class Attempt(NamedTuple):
    """verdict: the error's line, `equal`, `wrong` or `crash: ...`. growth: peak memory above that before, bytes."""

    verdict: str
    seconds: float
    growth: int


def picture(height: int, width: int, seed: int) -> Tensor:
    """(1, 3, H, W) of waves and some noise: smooth and rough parts, as a photo has."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.stack([torch.sin(rows / (5 + 9 * c) + seed) * torch.cos(columns / (7 + 4 * c)) for c in range(3)])
    noise = torch.rand(3, height, width, generator=generator) * (columns > width // 2)
    return (0.5 + 0.3 * waves + 0.2 * noise).clamp(0, 1)[None]


def valid_files(codec: Codec) -> list[bytes]:
    """Every kind of picture that a file can hold, most of them small."""
    ramp = (torch.arange(48 * 80).reshape(48, 80) // 16).to(torch.uint8)
    formats = {
        (48, 80): PixelFormat(),
        (33, 17): PixelFormat(gray=True),
        (1, 1): PixelFormat(),
        (64, 64): PixelFormat(alpha=torch.full((64, 64), 7, dtype=torch.uint8)),
        (31, 20): PixelFormat(alpha=ramp[:31, :20].contiguous(), icc_profile=bytes(range(256)) * 2),
        (48, 79): PixelFormat(gray=True, alpha=ramp[:, :79].contiguous()),
        LARGEST: PixelFormat(icc_profile=b"a profile " * 60),
    }
    with torch.no_grad():
        return [
            pack(codec, codec.analyze(picture(*size, seed)), pixel_format).data
            for seed, (size, pixel_format) in enumerate(formats.items())
        ]


def same(first: Decoded, second: Decoded) -> bool:
    """Equal to the last bit, in pixels and in format."""
    (x_hat, pixel_format), (other_x_hat, other_format) = first, second
    planes = [plane for plane in (pixel_format.alpha, other_format.alpha) if plane is not None]
    return (
        torch.equal(x_hat, other_x_hat)
        and pixel_format._replace(alpha=None) == other_format._replace(alpha=None)
        and (not planes or (len(planes) == 2 and torch.equal(planes[0], planes[1])))
    )


def attempt(data: bytes, codec: Codec, original: Decoded) -> Attempt:
    """What a reader of whole files makes of the bytes, and whether one of leading sections survives them."""
    before = _reset_peak()
    start = time.perf_counter()
    try:
        verdict = "equal" if same(unpack(data, codec), original) else "wrong"
    except CodingError as error:
        verdict = str(error)
    except BaseException as error:  # a panic of the coder is no Exception
        verdict = f"crash: {type(error).__name__}: {error}"
    seconds, growth = time.perf_counter() - start, _memory("VmHWM") - before
    try:
        read(data, leading=1)
    except CodingError:
        pass
    except BaseException as error:
        verdict = f"crash: reading of one section: {type(error).__name__}: {error}"
    return Attempt(verdict, seconds, growth)


def huge_claims(codec: Codec) -> list[bytes]:
    """Files of less than 1000 bytes with pictures of 2^22 to 2^28 pixels, all CRCs right but the content's."""
    parts = take_apart(pack(codec, codec.analyze(torch.ones(1, 3, 64, 64)), PixelFormat()).data)
    payloads = (b"\0" * 896 + b"\1\0\0\1", b"\xff" * 900, Random(0).randbytes(900), parts.sections[0][0])
    sizes = ((16384, 16384), (4096, 65535), (65535, 4096), (2048, 2048))
    return [
        assemble(parts._replace(size=size).holding([(payload, 0)]))
        for payload, size in itertools.product(payloads, sizes)
    ]


def plausible_claim(codec: Codec) -> bytes:
    """A file whose z are the cheapest there are, so that it could hold a picture of 1024x1024; its y are missing."""
    state = {name.removeprefix("tables.z."): value for name, value in codec.decoder_state().items() if "s.z." in name}
    tables = CodingTables.from_state(state)
    entries = [tables.frequencies[start : stop - 1].argmax() for start, stop in itertools.pairwise(tables.starts)]
    stack = AnsStack.from_bytes(b"\1" * 64)  # in place of y: not enough for them, but for the cheapest y there could be
    stack.push(np.repeat(tables.lowest + entries, 256), np.repeat(np.arange(len(tables)), 256), tables)
    return assemble(
        Parts(1, codec.codec_id, model_fingerprint(codec), CLAIM, 0, 0, [], []).holding([(stack.to_bytes(), 0)])
    )


def campaign(mutants_per_kind: int) -> dict[str, Any]:
    """Every mutation of every valid file; a mutant's seed is the mutation's name and a number."""
    torch.set_num_threads(1)
    codec, another = (load_model(MODELS / f"demo-{lmbda}.safetensors") for lmbda in ("0.001", "0.005"))
    files = {data: unpack(data, codec) for data in valid_files(codec)}
    others = [*files, *valid_files(another)]
    valid = [attempt(data, codec, original) for data, original in files.items()]
    mutants = {
        mutation.__name__: [
            attempt(mutant, codec, files[data])
            for data, mutant in itertools.islice(_mutants(mutation, list(files), others), mutants_per_kind)
        ]
        for mutation in MUTATIONS
    }
    with torch.no_grad():
        claims = [[attempt(data, codec, files[others[0]]) for _ in range(10)] for data in huge_claims(codec)]
    return {
        "valid": _summary({"valid": valid}),
        "mutants": _summary(mutants),
        "plausible claim": _summary({"claim": [attempt(plausible_claim(codec), codec, files[others[0]])]}),
        "huge claims": _summary({"claims": [min(attempts, key=lambda a: a.seconds) for attempts in claims]}),
    }


def _mutants(mutation: Mutation, files: Sequence[bytes], others: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """(valid file, what became of it), without end; a mutation that gives a valid file again does not count."""
    for number in itertools.count():
        data = files[number % len(files)]
        mutant = mutation(Random(f"{mutation.__name__} {number}"), data, others)
        if mutant not in files:
            yield data, mutant


def _summary(attempts: Mapping[str, Sequence[Attempt]]) -> dict[str, Any]:
    every = [(kind, a) for kind, outcomes in attempts.items() for a in outcomes]
    slowest, hungriest = max(every, key=lambda e: e[1].seconds), max(every, key=lambda e: e[1].growth)
    return {
        "kinds": {kind: len(outcomes) for kind, outcomes in attempts.items()},
        "verdicts": dict(Counter(_reason(a.verdict) for _, a in every).most_common()),
        "lines": max(len(a.verdict.splitlines()) for _, a in every),
        "seconds": slowest[1].seconds,
        "slowest": slowest[0],
        "growth": hungriest[1].growth,
        "hungriest": hungriest[0],
    }


def _reason(verdict: str) -> str:
    """The line without what is special to one file."""
    return re.sub(r"\b([0-9a-f]{16}|\d+(x\d+)?)\b|\(.*\)", "#", verdict.partition(";")[0])[:90]


def _reset_peak() -> int:
    """Forget the high-water mark; the bytes in memory now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{name}:")[1].split()[0])


if __name__ == "__main__":
    print(json.dumps(campaign(int(sys.argv[1]))))
