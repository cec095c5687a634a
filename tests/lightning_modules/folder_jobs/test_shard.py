"""Shards cover every file of a folder exactly once, and no file moves when others come or go."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.errors import CodingError
from lightning_modules.folder_jobs.shard import WHOLE, Shard, shard

names = st.sets(st.binary(min_size=1).map(os.fsdecode), max_size=30)
"""Whatever a file system may hold: bytes, of which not all are text."""


@given(names=names, total=st.integers(1, 12))
def test_each_name_is_in_exactly_one_shard(names: set[str], total: int) -> None:
    parts = [{name for name in names if Shard(place, total).holds(name)} for place in range(total)]
    assert sum(map(len, parts)) == len(names)
    assert set().union(*parts) == names


def test_the_shard_of_a_name_is_the_same_on_every_machine_for_ever() -> None:
    """A hash that changed would send a half-done folder's files to other jobs."""
    assert [
        next(place for place in range(8) if Shard(place, 8).holds(name))
        for name in ("kodim01.png", "a/b.png", "\udcff.png")
    ] == [6, 3, 5]


def test_shards_of_many_files_are_about_equal() -> None:
    counts = [sum(Shard(place, 8).holds(f"picture {number}.png") for number in range(8000)) for place in range(8)]
    assert all(880 < count < 1120 for count in counts), "within four standard deviations of 1000"


def test_without_a_shard_everything_is_one() -> None:
    assert shard(None) == WHOLE
    assert shard("2/8") == Shard(2, 8)
    assert WHOLE.holds("a.png")


@pytest.mark.parametrize("text", ["8/8", "1/0", "-1/8", "1", "a/b", "1/8/2", "", "0.5"])
def test_what_is_no_part_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(CodingError, match=r"shard=.*: no part of a folder; give K/N with K from 0 to N - 1"):
        shard(text)
