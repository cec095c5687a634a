"""Single files, chains and payloads: what is in which file, and what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules.coding.coder import pack_each
from lightning_modules.coding.pack import Named
from lightning_modules.coding.picture import unpack_each
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.records import Chain, ImageSize, Latents, PixelFormat
from lightning_modules.sga.bits_back.codec import BitsBackCodec
from lightning_modules.sga.bits_back.coder import BitsBackCoder, bits_back_coder
from tests.lightning_modules.sga.bits_back.conftest import searched
from tests.lightning_modules.sga.small_refinement import crop_of_photograph

SIZES: tuple[ImageSize, ...] = ((64, 96), (130, 70), (1, 1), (96, 64), (40, 40))


@pytest.fixture(scope="module")
def images(bits_back_codec: BitsBackCodec) -> list[Latents]:
    """Five pictures of several sizes; after the small one, the next digs deep into the stack."""
    return [
        searched(bits_back_codec, crop_of_photograph(60, 190, *size), steps)
        for size, steps in zip(SIZES, (0, 2, 1, 0, 2), strict=True)
    ]


def coder(mode: str, payload: Path | None = None, delta: float = 0.25, seeded_delta: float = 1.0) -> BitsBackCoder:
    file = None if payload is None else str(payload)
    return bits_back_coder(mode=mode, payload=file, delta=delta, seeded_delta=seeded_delta, batch_size=24)


def files_of(codec: BitsBackCodec, images: list[Latents], of: BitsBackCoder) -> list[bytes]:
    return [packed.data for packed in pack_each(of, codec, named(images))]


def named(images: list[Latents]) -> list[Named]:
    return [Named(f"{number}.png", latents, PixelFormat()) for number, latents in enumerate(images)]


def x_hats(codec: BitsBackCodec, files: list[bytes]) -> list[Tensor]:
    pictures = unpack_each(files, codec)
    assert not any(isinstance(picture, CodingError) for picture in pictures), pictures
    return [picture.x_hat for picture in pictures if not isinstance(picture, CodingError)]


@pytest.mark.parametrize(("delta", "seeded_delta"), [(4.0, 0.25), (0.25, 1.0), (2**-4, 4.0)])
def test_a_chain_decodes_in_any_order_of_its_files(
    bits_back_codec: BitsBackCodec, images: list[Latents], delta: float, seeded_delta: float
) -> None:
    files = files_of(bits_back_codec, images, coder("chained", delta=delta, seeded_delta=seeded_delta))
    for found, latents in zip(x_hats(bits_back_codec, files[::-1])[::-1], images, strict=True):
        assert torch.equal(found, bits_back_codec.estimate(latents).x_hat)


def test_a_chain_costs_its_net_rates_and_the_initial_bits_of_its_first_picture(
    bits_back_codec: BitsBackCodec, images: list[Latents]
) -> None:
    coded = coder("chained").encode(bits_back_codec, images)
    payload = sum(8 * (len(one.sections[0].payload) - 14) for one in coded)  # 14 bytes of settings each
    net = sum(one.accounts["net"] for one in coded)
    initial = [one.accounts["initial"] for one in coded]
    assert payload == pytest.approx(net + initial[0], abs=40)
    assert initial[0] > 0
    assert initial[1:] == [0] * 4
    apart = coder("single").encode(bits_back_codec, images)
    assert payload < sum(8 * len(one.sections[0].payload) for one in apart)


@pytest.mark.parametrize("missing", [0, 2, 4])
def test_a_chain_without_one_of_its_files_is_one_line_that_says_which(
    bits_back_codec: BitsBackCodec, images: list[Latents], missing: int
) -> None:
    files = files_of(bits_back_codec, images, coder("chained"))
    del files[missing]
    for found in unpack_each(files, bits_back_codec):
        assert isinstance(found, CodingError)
        assert f"missing here: number {missing + 1};" in str(found)


def test_a_damaged_chain_does_not_take_others_along(bits_back_codec: BitsBackCodec, images: list[Latents]) -> None:
    first = files_of(bits_back_codec, images[:2], coder("chained"))
    second = files_of(bits_back_codec, images[3:], coder("chained"))
    broken = bytearray(first[0])
    broken[-30] ^= 1
    found = unpack_each([bytes(broken), *second, first[1]], bits_back_codec)
    assert [isinstance(picture, CodingError) for picture in found] == [True, False, False, True]


def test_each_file_names_its_chain(bits_back_codec: BitsBackCodec, images: list[Latents]) -> None:
    packed = pack_each(coder("chained"), bits_back_codec, named(images))
    assert len({one.chain for one in packed}) == 1
    assert packed[0].chain == Chain(packed[0].chain.mark if packed[0].chain else 0, 5)
    (alone,) = pack_each(coder("single"), bits_back_codec, named(images[:1]))
    assert alone.chain is None


@pytest.mark.parametrize("length", [801, 802, 803, 804, 4096])
def test_a_payload_comes_back_byte_for_byte(
    bits_back_codec: BitsBackCodec, images: list[Latents], tmp_path: Path, length: int
) -> None:
    data = np.random.default_rng(length).bytes(length)
    (tmp_path / "file").write_bytes(data)
    packed = pack_each(coder("payload", tmp_path / "file"), bits_back_codec, named(images[:1]))
    (picture,) = unpack_each([packed[0].data], bits_back_codec)
    assert not isinstance(picture, CodingError)
    assert picture.format.carried == data
    assert len(packed[0].data) - length == pytest.approx(packed[0].accounts["net"] / 8, abs=64)


def test_a_payload_that_is_too_short_is_one_line(
    bits_back_codec: BitsBackCodec, images: list[Latents], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"short")
    with pytest.raises(CodingError, match="too few initial bits"):
        coder("payload", tmp_path / "file").encode(bits_back_codec, images[:1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "chain"}, "choose single, chained or payload"),
        ({"mode": "payload"}, "a payload goes with mode=payload"),
        ({"payload": "file"}, "a payload goes with mode=payload"),
        ({"mode": "payload", "payload": "no/such"}, "no/such: cannot be read"),
        ({"delta": 0.3}, "coder.delta=0.3: a step of z is a power of two from 4 to 0.00390625"),
        ({"seeded_delta": 8.0}, "coder.seeded_delta=8.0: a step"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    made: dict[str, Any] = {
        "mode": "single",
        "payload": None,
        "delta": 0.25,
        "seeded_delta": 1.0,
        "batch_size": 1,
        **settings,
    }
    with pytest.raises(CodingError, match=words):
        bits_back_coder(**made)


def test_another_codec_has_nothing_to_get_back(codec: HyperpriorCodec, x: Tensor) -> None:
    with pytest.raises(CodingError, match="use coder=separate"):
        coder("single").encode(codec, [codec.analyze(x)])


def test_where_initial_bits_cost_something_a_coarse_z_is_shorter(
    bits_back_codec: BitsBackCodec, images: list[Latents]
) -> None:
    coarse, fine = (coder("single", seeded_delta=step).encode(bits_back_codec, images[:1])[0] for step in (1.0, 0.25))
    assert len(coarse.sections[0].payload) < 0.97 * len(fine.sections[0].payload)
    assert coarse.accounts["net"] == pytest.approx(fine.accounts["net"], rel=0.02)
