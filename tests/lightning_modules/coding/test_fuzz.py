"""Files from anywhere: none crashes a reader, hangs it, fills its memory, or shows another picture unnoticed."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.codec import Codec
from lightning_modules.coding.container import read
from lightning_modules.coding.picture import model_fingerprint, pack, unpack
from lightning_modules.errors import CodingError
from lightning_modules.records import PixelFormat
from tests.lightning_modules.coding.fuzz_campaign import CLAIM, LARGEST, MODELS, picture
from tests.lightning_modules.coding.mutations import MUTATIONS, Parts, assemble, take_apart

pytestmark = pytest.mark.fuzz

MUTANTS_PER_KIND = 1300
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_model(MODELS / "demo-0.001.safetensors")


# ---- the campaign


@pytest.fixture(scope="module")
def campaign(repository: Path) -> dict[str, Any]:
    """What `fuzz_campaign` says of its mutants; a crash or a hang of the whole process fails here."""
    module = "tests.lightning_modules.coding.fuzz_campaign"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, str(MUTANTS_PER_KIND)],
        cwd=repository,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.slow
def test_twenty_thousand_mutants_are_refused_in_one_line_or_decode_to_the_original(
    campaign: dict[str, Any], record_property: Callable[[str, object], None]
) -> None:
    mutants = campaign["mutants"]
    wrong = mutants["verdicts"].get("wrong", 0)
    crashes = sum(number for verdict, number in mutants["verdicts"].items() if verdict.startswith("crash"))
    record_property("mutants", f"{sum(mutants['kinds'].values())}, crashes {crashes}, wrong pictures {wrong}")
    for title, part in (("mutants of kind", mutants["kinds"]), ("mutants that end", mutants["verdicts"])):
        for name, number in part.items():
            record_property(f"{title} {name}", number)
    assert mutants["kinds"] == {mutation.__name__: MUTANTS_PER_KIND for mutation in MUTATIONS}
    assert sum(mutants["kinds"].values()) >= 20_000
    assert [verdict for verdict in mutants["verdicts"] if verdict.startswith(("crash", "wrong"))] == []
    assert mutants["lines"] == 1


@pytest.mark.slow
def test_the_valid_files_of_the_campaign_decode(campaign: dict[str, Any]) -> None:
    assert campaign["valid"]["verdicts"] == {"equal": 7}


@pytest.mark.slow
def test_mutants_reach_every_check_of_the_reader(campaign: dict[str, Any]) -> None:
    reached = "\n".join(campaign["mutants"]["verdicts"])
    for check in (
        "not an lpc file",
        "newer version",
        "out of range",
        "without pixels",
        "number in the header",
        "flags and section count",
        "header disagrees",
        "file is cut off",
        "section disagrees",
        "bytes follow",
        "needs model",
        "needs codec",
        "do not end as",
        "end before the last symbol",
        "coded integer is out of range",
        "are left after the last symbol",
        "other values than were coded",
        "decoded alpha disagrees",
        "alpha inflates to more",
        "colour profile is cut off",
    ):
        assert check in reached


@pytest.mark.slow
def test_no_mutant_takes_two_seconds(campaign: dict[str, Any], record_property: Callable[[str, object], None]) -> None:
    record_property("slowest mutant", f"{campaign['mutants']['seconds']:.3f} s, {campaign['mutants']['slowest']}")
    assert campaign["mutants"]["seconds"] < 2


@pytest.mark.slow
def test_no_mutant_takes_twice_the_memory_of_a_valid_file(
    campaign: dict[str, Any], record_property: Callable[[str, object], None]
) -> None:
    mutant, valid = (campaign[part]["growth"] / MEGABYTE for part in ("mutants", "valid"))
    record_property("peak memory", f"{mutant:.1f} MiB, {campaign['mutants']['hungriest']}; valid {valid:.1f} MiB")
    assert mutant < 2 * valid


@pytest.mark.slow
def test_a_kilobyte_that_claims_a_huge_picture_is_refused_in_10_ms_and_16_megabytes(
    campaign: dict[str, Any], record_property: Callable[[str, object], None]
) -> None:
    claims = campaign["huge claims"]
    record_property("huge claims", f"{claims['seconds']:.4f} s, {claims['growth'] / MEGABYTE:.2f} MiB at most")
    assert claims["verdicts"] == {"damaged: the coded data end before the last symbol": claims["kinds"]["claims"]}
    assert claims["seconds"] < 0.01
    assert claims["growth"] < 16 * MEGABYTE


@pytest.mark.slow
def test_a_claim_that_only_decoding_can_refute_takes_less_memory_a_pixel_than_a_picture(
    campaign: dict[str, Any], record_property: Callable[[str, object], None]
) -> None:
    claim = campaign["plausible claim"]
    claimed, valid = claim["growth"] / math.prod(CLAIM), campaign["valid"]["growth"] / math.prod(LARGEST)
    record_property("plausible claim", f"{claimed:.0f} bytes a pixel; valid {valid:.0f}")
    assert claim["verdicts"] == {"damaged: the coded data end before the last symbol": 1}
    assert 1 < claimed < valid


# ---- bytes without an original


def _refused(data: bytes, codec: Codec) -> bool:
    """True when every reader refuses in one line; any other exception fails the test."""
    lines = []
    for reader in (read, lambda data: read(data, leading=1), lambda data: unpack(data, codec)):
        try:
            reader(data)
        except CodingError as error:
            lines.append(str(error))
    assert all(line and "\n" not in line for line in lines)
    return len(lines) == 3


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_noise_is_refused(codec: Codec, noise: bytes) -> None:
    assert _refused(noise, codec)
    assert _refused(b"LPC\r\n\x1a\x01\x01" + noise, codec)


SECTION = st.tuples(st.binary(max_size=80), st.integers(0, 2**32 - 1))


@settings(deadline=None, max_examples=300)
@given(
    size=st.tuples(st.integers(0, 2**35 - 1), st.integers(0, 70_000)) | st.tuples(st.integers(1, 64), st.just(64)),
    flags=st.integers(0, 255) | st.integers(0, 7),
    num_sections=st.none() | st.integers(0, 2**35 - 1),
    claims=st.none() | st.lists(st.integers(0, 2**35 - 1), max_size=300),
    sections=st.lists(SECTION, max_size=5),
)
def test_made_up_headers_with_right_checksums_are_refused_by_the_decoder_at_the_latest(
    codec: Codec,
    size: tuple[int, int],
    flags: int,
    num_sections: int | None,
    claims: list[int] | None,
    sections: list[tuple[bytes, int]],
) -> None:
    made_up = Parts(1, 1, model_fingerprint(codec), size, flags, 0, [], []).holding(sections)
    number = made_up.num_sections if num_sections is None else num_sections
    data = assemble(made_up._replace(num_sections=number, claims=made_up.claims if claims is None else claims))
    with pytest.raises(CodingError, match=r"^.+$"):
        unpack(data, codec)


# ---- what checksums tie together


@pytest.fixture(scope="module")
def portrait(codec: Codec) -> bytes:
    """A grayscale picture of 47x60 with alpha."""
    alpha = (torch.arange(47 * 60).reshape(47, 60) // 9).to(torch.uint8)
    with torch.no_grad():
        return pack(codec, codec.analyze(picture(47, 60, 3)), PixelFormat(gray=True, alpha=alpha)).data


@pytest.mark.parametrize(
    "change",
    [{"size": (48, 60)}, {"size": (46, 60)}, {"size": (47, 59)}, {"flags": 2}],
    ids=["a row more", "a row less", "a column less", "in colour"],
)
def test_a_header_of_the_same_latents_but_another_picture_is_refused(
    change: dict[str, Any], portrait: bytes, codec: Codec
) -> None:
    with pytest.raises(CodingError, match="other values than were coded"):
        unpack(assemble(take_apart(portrait)._replace(**change)), codec)


def test_alpha_of_another_picture_of_the_same_size_is_refused(portrait: bytes, codec: Codec) -> None:
    opaque = PixelFormat(gray=True, alpha=torch.full((47, 60), 255, dtype=torch.uint8))
    with torch.no_grad():
        other = take_apart(pack(codec, codec.analyze(picture(47, 60, 4)), opaque).data)
    sections = [other.sections[0], take_apart(portrait).sections[1]]
    with pytest.raises(CodingError, match="other values than were coded"):
        unpack(assemble(take_apart(portrait).holding(sections)), codec)


def test_alpha_is_not_unpacked_for_latents_that_are_not_there(portrait: bytes, codec: Codec) -> None:
    parts = take_apart(portrait)
    constant = (b"\xff\x80", zlib.crc32(b"\x80" * (1 << 28)))
    data = assemble(parts._replace(size=(16384, 16384)).holding([constant, parts.sections[1]]))
    with pytest.raises(CodingError, match="coded data end before the last symbol"):
        unpack(data, codec)


def test_the_mutators_idea_of_a_file_is_the_readers(portrait: bytes) -> None:
    parts, bitstream = take_apart(portrait), read(portrait)
    assert assemble(parts) == portrait
    assert bitstream.alpha is not None
    header_crc = zlib.crc32(portrait[: -sum(len(payload) + 8 for payload, _ in parts.sections) - 4])
    assert struct.pack("<I", header_crc) in portrait
    assert [(payload, content ^ header_crc) for payload, content in parts.sections] == [
        (section.payload, section.content_crc) for section in (bitstream.alpha, *bitstream.sections)
    ]
