"""One change of a command line, `key=value`: what it is called in a table and in the name of a folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

MOST_CHARACTERS = 40
"""Of a value in a folder's name."""

MOST_BYTES = 200
"""Of a folder's name: file systems take 255, and a number comes before it."""

UNSAFE = re.compile(r"[^\w.@-]+")
"""Slashes and spaces, and what shells or Hydra's grammar read as their own."""


class Override(NamedTuple):
    """key: dotted, or a group. value: as it was typed; empty for a deletion."""

    key: str
    value: str


def parse(text: str) -> Override:
    """`+inference.lr=0.01` -> key `inference.lr`, value `0.01`: signs and quotes are the command line's, not theirs."""
    key, _, value = text.partition("=")
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return Override(key.lstrip("+~"), value[1:-1] if quoted else value)


def short_key(key: str, others: Collection[str] = ()) -> str:
    """Return the last two parts of a dotted key; all of it where another key ends in them as well."""
    short = ".".join(key.split(".")[-2:])
    clashes = [other for other in others if other != key and ".".join(other.split(".")[-2:]) == short]
    return key if clashes else short


def folder_name(texts: Iterable[str], left_out: Collection[str] = ()) -> str:
    """`key-value_key-value` of all overrides but those of the keys `left_out`; safe as the name of one folder.

    Of a long value, its end: a path is known by that. Names of different overrides may be equal.
    """
    overrides = [override for override in map(parse, texts) if override.key not in left_out]
    keys = [override.key for override in overrides]
    words = (f"{_safe(short_key(key, keys))}-{_end_of(_safe(value))}" for key, value in overrides)
    name = "_".join(word.strip("-_.") for word in words)
    return name.encode()[:MOST_BYTES].decode(errors="ignore")


def _end_of(value: str) -> str:
    """Whole words, where there are several."""
    end = value[-MOST_CHARACTERS:]
    return end if end == value else end.partition("_")[2] or end


def _safe(text: str) -> str:
    return UNSAFE.sub("_", text).strip("_.")
