"""Which papers' packages a configuration names, by `_target_` or by any other dotted name."""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

NAME = re.compile(r"\blightning_modules\.(\w+)")
NEIGHBOURS = {"sga": {"hyperprior"}}
"""Rooms that build on another one: that may be imported, and named beside it."""

OF_ANY_MODEL = ("decoding", "metrics")
"""Sections for models of every room at once: what reading a file offers, and measures of quality."""


def rooms_named(text: str, rooms: set[str]) -> set[str]:
    """Return those of `rooms` that a text names."""
    return set(NAME.findall(text)) & rooms


def rooms_composed(cfg: DictConfig, rooms: set[str]) -> set[str]:
    """Return those of `rooms` that a composed configuration names for its own model."""
    away = {*OF_ANY_MODEL, *(cfg.get("decoding") or {})}
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in away])
    return rooms_named(OmegaConf.to_yaml(own), rooms)


def is_one_room(named: set[str]) -> bool:
    """Return whether these are one room, perhaps with those it builds on; none is fine, too."""
    return not named or any(named <= {room, *NEIGHBOURS.get(room, ())} for room in named)


def all_rooms(repository: Path, floor: set[str]) -> set[str]:
    """Return the packages of papers: all of `lightning_modules` that are none of the floor's."""
    packages = (path.parent.name for path in (repository / "lightning_modules").glob("*/__init__.py"))
    return {name for name in packages if name not in floor}
