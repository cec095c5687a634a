"""Bits-back coding of the lossless model: draws come from bits that are there, and these come back."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch

from lightning_modules.coding.ans import AnsStack
from lightning_modules.coding.bits_back import seeded_bytes, stack_of
from lightning_modules.errors import CodingError, DamagedFile
from lightning_modules.rec.files import binary_decisions
from lightning_modules.rec.files.bits_back import PosteriorCells, edges, middles
from lightning_modules.rec.files.bits_back_coder import BitsBackCoder, GridCodec
from lightning_modules.rec.lossless_codec import LosslessCodec
from lightning_modules.records import Coded
from tests.lightning_modules.rec.small_codecs import lossless_codec, lossy_codec, picture

CELL_BITS = 6


@pytest.fixture(scope="module")
def codec() -> LosslessCodec:
    return lossless_codec()


@pytest.fixture(scope="module")
def coded(codec: LosslessCodec) -> Coded:
    return codec.encode_back(codec.analyze(picture(32, 32)), CELL_BITS)


# ---- the grid


@pytest.mark.parametrize("bits", [1, 4, 10])
def test_cells_have_equal_prior_mass_and_stand_for_their_middles(bits: int) -> None:
    found = [NormalDist().cdf(edge) for edge in edges(bits)]
    assert found == pytest.approx([k / 2**bits for k in range(2**bits + 1)], abs=1e-9)
    assert (edges(bits)[:-1] < middles(bits)).all()
    assert (middles(bits) < edges(bits)[1:]).all()


@pytest.mark.parametrize("deviation", [1e-6, 0.1, 1.0, 3.0])
def test_the_masses_of_a_posterior_s_cells_are_positive_and_complete(deviation: float) -> None:
    cells = PosteriorCells(6, np.full(65, 1.3), np.full(65, deviation))
    below = cells.below(np.arange(65))
    assert below[0] == 0
    assert below[-1] == 1 << binary_decisions.MASS_BITS
    assert (np.diff(below) >= binary_decisions.LEAST_MASS).all()


def test_popping_under_a_posterior_draws_from_it_and_pushing_restores_the_stack() -> None:
    count = 20000
    cells = PosteriorCells(8, np.full(count, 0.7), np.full(count, 0.3))
    stack = stack_of(seeded_bytes(count))
    before, held = stack.to_bytes(), stack.bits
    drawn = binary_decisions.pop(stack, count, 8, cells.below)
    spent = held - stack.bits
    values = middles(8)[drawn]
    assert values.mean() == pytest.approx(0.7, abs=0.01)
    assert values.std() == pytest.approx(0.3, abs=0.01)
    kl = np.log(1 / 0.3) + (0.3**2 + 0.7**2) / 2 - 0.5
    assert 8 - spent / count == pytest.approx(kl / np.log(2.0), abs=0.02)
    binary_decisions.put(stack, list(binary_decisions.decided(drawn, 8, cells.below)))
    assert stack.to_bytes() == before


# ---- files


def alone(codec: LosslessCodec, x: torch.Tensor, cell_bits: int = CELL_BITS) -> Coded:
    return codec.encode_back(codec.analyze(x), cell_bits)


@pytest.mark.parametrize("bits", [1, 6, 12])
@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_a_picture_comes_back_exactly(codec: LosslessCodec, size: tuple[int, int], bits: int) -> None:
    x = picture(*size)
    assert torch.equal(codec.decode(alone(codec, x, bits).sections, size), x)


def test_a_chain_pays_initial_bits_once_and_comes_back_as_a_whole(codec: LosslessCodec) -> None:
    sizes = [(8, 8), (33, 47), (1, 1)]
    pictures = [picture(*size, seed=k) for k, size in enumerate(sizes)]
    coded = codec.encode_back_chain([codec.analyze(x) for x in pictures], CELL_BITS)
    assert [one.accounts["initial"] > 0 for one in coded] == [True, False, False]
    total = sum(8 * len(one.sections[0].payload) for one in coded)
    assert total == pytest.approx(sum(sum(one.bits.values()) for one in coded) + 3 * 80, abs=200)
    files = [(one.sections, size) for one, size in zip(coded, sizes, strict=True)]
    for order in ([0, 1, 2], [2, 0, 1]):
        found = codec.read_together([files[k] for k in order])
        for k, integers in zip(order, found, strict=True):
            assert not isinstance(integers, CodingError)
            assert torch.equal(codec.synthesize([integers], sizes[k]), pictures[k])
    assert {codec.chain_of(sections) for sections, _ in files} == {codec.chain_of(files[0][0])}
    assert all("missing here: number 2" in str(error) for error in codec.read_together([files[0], files[2]]))


def test_kinds_of_files_are_read_together(codec: LosslessCodec, coded: Coded) -> None:
    others = codec.encode_back_chain([codec.analyze(picture(8, 8)), codec.analyze(picture(8, 8, seed=1))], CELL_BITS)
    plain = codec.encode(codec.analyze(picture(8, 8)))
    files = [
        (others[1].sections, (8, 8)),
        (coded.sections, (32, 32)),
        (others[0].sections, (8, 8)),
        (plain.sections, (8, 8)),
    ]
    found = codec.read_together(files)
    assert not any(isinstance(one, CodingError) for one in found)


def test_a_payload_of_the_users_own_is_refused() -> None:
    with pytest.raises(CodingError, match="mode=payload: lossless models of relative entropy coding have single and"):
        BitsBackCoder(mode="payload", cell_bits=CELL_BITS)


def test_a_mode_says_whether_pictures_are_a_chain(codec: LosslessCodec) -> None:
    images = [codec.analyze(picture(8, 8, seed=k)) for k in range(2)]
    for mode, is_chain in (("single", False), ("chained", True)):
        coded = BitsBackCoder(mode=mode, cell_bits=CELL_BITS, batch_size=2).encode(codec, images)
        assert [codec.chain_of(one.sections) is not None for one in coded] == [is_chain, is_chain]


def test_gray_comes_back_exactly(codec: LosslessCodec) -> None:
    x = picture(9, 8)[:, :1].expand(1, 3, 9, 8)
    assert torch.equal(codec.decode(alone(codec, x).sections, (9, 8)), x)


def test_the_file_holds_the_net_rate_and_the_initial_bits(coded: Coded) -> None:
    (section,) = coded.sections
    assert 8 * len(section.payload) == pytest.approx(coded.accounts["net"] + coded.accounts["initial"], abs=100)
    assert sum(coded.bits.values()) == pytest.approx(coded.accounts["net"] + coded.accounts["initial"])


def test_the_net_rate_is_the_evidence_bound(codec: LosslessCodec, coded: Coded) -> None:
    estimate = codec.estimate(codec.analyze(picture(32, 32)))
    bound = float(sum(estimate.bits.values()))
    assert coded.accounts["net"] == pytest.approx(bound, rel=0.02)
    assert coded.accounts["bound"] == pytest.approx(bound)


def test_two_threads_read_what_one_has_written(codec: LosslessCodec, coded: Coded) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(codec.decode(coded.sections, (32, 32)), picture(32, 32))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.fuzz
def test_damage_is_refused(codec: LosslessCodec) -> None:
    (section,) = alone(codec, picture(6, 6)).sections
    for k in range(0, len(section.payload), 3):
        payload = bytearray(section.payload)
        payload[k] ^= 1 << k % 8
        (found,) = codec.read_integers([[section._replace(payload=bytes(payload))]], (6, 6))
        assert isinstance(found, DamagedFile), k
    (found,) = codec.read_integers([[section._replace(payload=section.payload[:-4])]], (6, 6))
    assert isinstance(found, DamagedFile)


def test_only_lossless_models_get_bits_back() -> None:
    assert isinstance(lossless_codec(), GridCodec)
    assert not isinstance(lossy_codec(), GridCodec)


def test_words_left_on_the_stack_are_those_that_were_there_first(codec: LosslessCodec, coded: Coded) -> None:
    """Another initial word below the file's own is found out."""
    (section,) = coded.sections
    head, words = section.payload[:2], section.payload[2:]
    assert AnsStack.from_bytes(words).num_words > 0
    longer = head + b"\x01\x02\x03\x04" + words
    (found,) = codec.read_integers([[section._replace(payload=longer)]], (32, 32))
    assert isinstance(found, DamagedFile)
