"""Shared randomness is integers by counter: published answers, our own vectors, and one result by every route."""

from __future__ import annotations

import zlib
from statistics import NormalDist

import numpy as np
import pytest
import torch

from lightning_modules.coding.shared_randomness import (
    NORMAL_UNIT,
    extended_prefix,
    first_prefix,
    halves,
    normal_integers,
    normal_table,
    philox4x32,
    signed_64,
    signs,
    splitmix64,
)

PI = 0x243F6A8885A308D313198A2E03707344A4093822299F31D0
KNOWN_ANSWERS = [  # of Random123's kat_vectors: counter, key, words
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        tuple((PI >> shift) & 0xFFFFFFFF for shift in (160, 128, 96, 64)),
        tuple((PI >> shift) & 0xFFFFFFFF for shift in (32, 0)),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
KEY = halves(signed_64(0x0123456789ABCDEF))

# Vectors of the format, as in docs/rec.md: files written by any version must read the same numbers.
VECTOR_NORMALS = [
    10162,
    3770,
    -2975,
    942,
    -1528,
    -3405,
    -1202,
    2643,
    -545,
    -1312,
    -3369,
    1489,
    1829,
    4247,
    6260,
    777,
    5128,
    -6529,
    3378,
    -1965,
]
VECTOR_CRC = 0xF737E91C
VECTOR_PREFIX = 0x627749B37FCFEC3E
VECTOR_SIGNS = [1, 1, 1, -1, 1, 1, 1, 1, 1, 1, -1, -1, -1, 1, 1, -1]
VECTOR_SIGNS_CRC = 0x2EA06CFA


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers_for_integers_arrays_and_tensors(counter, key, words) -> None:
    assert philox4x32(counter, key) == words
    for dtype in (np.uint32, np.int64):
        arrays = philox4x32(*([np.array([word]).astype(dtype) for word in part] for part in (counter, key)))
        assert tuple(int(word[0]) for word in arrays) == words
    tensors = philox4x32([torch.tensor([word]) for word in counter], [torch.tensor([word]) for word in key])
    assert tuple(int(word) for word in tensors) == words


def test_splitmix_gives_the_published_answers() -> None:
    golden = 0x9E3779B97F4A7C15 - (1 << 64)
    drawn = splitmix64(torch.arange(1, 4) * golden).tolist()
    assert [word % (1 << 64) for word in drawn] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_the_table_is_the_inverse_normal_cdf_and_does_not_hang_on_its_last_bits() -> None:
    table = normal_table()
    exact = [NORMAL_UNIT * NormalDist().inv_cdf((j + 0.5) / 65536) for j in range(32768)]
    assert np.array_equal(table[:32768], np.rint(exact))
    assert np.array_equal(table, -table[::-1])
    to_boundary = np.abs(np.abs(np.array(exact) - np.floor(exact)) - 0.5)
    assert to_boundary.min() / NORMAL_UNIT > 4e-9
    assert abs(np.mean((table / NORMAL_UNIT) ** 2) - 1) < 3e-5


def test_gaussians_are_the_vectors_of_the_format() -> None:
    row = normal_integers(KEY, [np.array([word]) for word in (3, 2, 1)], 20)[0]
    assert row.tolist() == VECTOR_NORMALS
    many = normal_integers(KEY, [np.arange(40) % 3, np.arange(40) % 7, np.arange(40)], 1000)
    assert zlib.crc32(many.astype("<i2").tobytes()) == VECTOR_CRC


def test_signs_and_prefixes_are_the_vectors_of_the_format() -> None:
    prefix = extended_prefix(extended_prefix(first_prefix(42, torch.tensor([3])), torch.tensor([5])), torch.tensor([0]))
    assert int(prefix) % (1 << 64) == VECTOR_PREFIX
    drawn = signs(prefix, 1000)[0]
    assert drawn[:16].tolist() == VECTOR_SIGNS
    assert zlib.crc32(drawn.to(torch.int8).numpy().tobytes()) == VECTOR_SIGNS_CRC


def test_numpy_and_torch_make_the_same_gaussians() -> None:
    address = [torch.arange(64) % 5, torch.arange(64) % 3, torch.arange(64) * 1_000_003 % (1 << 32)]
    by_numpy = normal_integers(KEY, [word.numpy() for word in address], 77)
    by_torch = _torch_route(address, 77)
    assert np.array_equal(by_numpy, by_torch.numpy())
    assert torch.equal(normal_integers(KEY, address, 77), by_torch)


def _torch_route(address: list[torch.Tensor], dimensions: int) -> torch.Tensor:
    """What tensors on a device go through, here on the CPU."""
    from lightning_modules.coding.shared_randomness import _normal_rows

    return _normal_rows(KEY, address, torch.arange(-(-dimensions // 8)))[:, :dimensions]


@pytest.mark.gpu
def test_a_gpu_makes_the_same_gaussians_and_signs() -> None:
    address = [torch.arange(64) % 5, torch.arange(64) % 3, torch.arange(64)]
    on_device = [word.cuda() for word in address]
    assert torch.equal(normal_integers(KEY, on_device, 77).cpu(), normal_integers(KEY, address, 77))
    prefix = first_prefix(1, address[0])
    assert torch.equal(signs(prefix.cuda(), 77).cpu(), signs(prefix, 77))


def test_any_gaussian_is_made_without_the_others() -> None:
    sequential = normal_integers(KEY, [np.zeros(50, int), np.full(50, 4), np.arange(50)], 33)
    alone = normal_integers(KEY, [np.zeros(1, int), np.full(1, 4), np.full(1, 37)], 33)
    assert np.array_equal(alone[0], sequential[37])
    assert np.array_equal(normal_integers(KEY, [np.zeros(1, int), np.full(1, 4), np.full(1, 37)], 9)[0], alone[0, :9])


@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_part_of_an_address_matters(place: int) -> None:
    address = [np.zeros(2, int) for _ in range(3)]
    address[place][1] = 1
    first, second = normal_integers(KEY, address, 4000)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.08


def test_gaussians_have_the_moments_of_a_normal_law() -> None:
    drawn = normal_integers(KEY, [np.zeros(400, int), np.zeros(400, int), np.arange(400)], 1000) / NORMAL_UNIT
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert abs((drawn**power).mean() - moment) < 0.05


def test_signs_are_fair_and_those_of_two_prefixes_unrelated() -> None:
    drawn = signs(extended_prefix(first_prefix(7, torch.zeros(1, dtype=torch.int64)), torch.arange(64)), 4096)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    correlations = drawn @ drawn.T / 4096 - torch.eye(64)
    assert float(correlations.abs().max()) < 0.09
    assert abs(float(drawn.mean())) < 0.01


def test_a_seed_outside_64_bits_is_refused() -> None:
    assert signed_64((1 << 64) - 1) == -1
    for seed in (-1, 1 << 64):
        with pytest.raises(ValueError, match="seed must be an integer in 0"):
            signed_64(seed)
