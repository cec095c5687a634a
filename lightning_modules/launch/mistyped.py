"""What a mistyped setting was meant to be: the nearest names in the configuration that the command composes."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from lightning_modules.errors import UserError
from lightning_modules.launch.paths import CONF, folders_of_command

UNKNOWN = re.compile(r"Could not (?:override|delete from config\.) '([^'=]+)")
"""What Hydra says of a setting that is not there."""

NEAR, VERY_NEAR = 0.6, 0.8
"""Least similarity of names: to suggest one, and to refuse a new setting for its sake."""


class Names(NamedTuple):
    """What a command line can name. settings: the composed configuration, as it is written. groups: of files."""

    settings: dict[Any, Any]
    groups: list[str]

    def like(self, key: str) -> list[str]:
        """Return at most two names that `key` may stand for: level by level, or a setting of that name elsewhere."""
        if "/" in key:
            return close(key, self.groups, VERY_NEAR)
        tree = {**dict.fromkeys(self.groups, None), **self.settings}
        last = key.rpartition(".")[2]
        elsewhere = {path: path.rpartition(".")[2] for path in _paths(self.settings)}
        named = close(last, set(elsewhere.values()), VERY_NEAR)
        found = list(_spelled(key.split("."), tree)) or [path for path in elsewhere if elsewhere[path] in named]
        return sorted(found, key=lambda path: (-_similarity(path, key), path.count(".")))[:2]


def unknown_setting(text: str) -> str | None:
    """Return one line for what Hydra says of an unknown setting, with the nearest that exist; None for other texts."""
    found = UNKNOWN.search(text)
    return None if found is None else _no_setting(found[1], names_of_command().like(found[1]))


def suggestion(near: Sequence[str]) -> str:
    """Return a question for the nearest names; nothing where none is near."""
    return f", did you mean {' or '.join(near)}?" if near else ""


def close(name: str, options: Iterable[str], cutoff: float = NEAR) -> list[str]:
    """Return at most two of `options`, the nearest first."""
    return difflib.get_close_matches(name, sorted(options), n=2, cutoff=cutoff)


def names_of_command() -> Names:
    """Compose what this process was asked for, without what does not exist; sweeps with their first values."""
    options, _ = get_args_parser().parse_known_args()
    folders = folders_of_command()
    parsed = OverridesParser.create().parse_overrides(options.overrides)
    further = [f"hydra.searchpath=[{folder}]" for folder in folders if folder != CONF]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        inner = [f"hydra/{group}" for group in loader.list_groups("hydra")]
        cfg = _composed([*further, *map(_single, parsed)])
    return Names(_written(cfg), [*groups_of(folders), *inner])


def groups_of(folders: Iterable[Path]) -> list[str]:
    """Return the groups of files that folders of configurations have."""
    return sorted({path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()})


def refuse_mistyped_additions(cfg: DictConfig, overrides: Sequence[str], folders: Iterable[Path]) -> None:
    """Raise `UserError` for a `+key=value` that nothing reads: Hydra takes any.

    That is one that the class it is meant for does not take, and one that differs by a slip from a setting there is.
    """
    words = [word for word in overrides if word.startswith("+") and not word.startswith("++")]
    groups = groups_of(folders)
    added = [one for one in OverridesParser.create().parse_overrides(words) if one.key_or_group not in groups]
    settings = _written(cfg)
    for override in added:
        _remove(settings, override.key_or_group.split("."))
    for override in added:
        near = _meant(override, Names(settings, groups))
        if near is not None:
            raise UserError(_no_setting(override.key_or_group, near))


def _meant(override: Override, names: Names) -> list[str] | None:
    """Return what an addition was meant to be, which may be unknown; None for one that can be taken."""
    node: Any = {**dict.fromkeys(names.groups, None), **names.settings}
    parts = override.key_or_group.split(".")
    depth = 0
    while isinstance(node, dict) and depth < len(parts) and parts[depth] in node:
        node, depth = node[parts[depth]], depth + 1
    if not isinstance(node, dict) or depth == len(parts):
        return None
    taken = _taken_by(node["_target_"]) if "_target_" in node else None
    if taken is not None and parts[depth] in taken:
        return None
    value = override.value()
    builds = taken is None and ("_target_" in node or (isinstance(value, dict) and "_target_" in value))
    if builds:
        return None
    near = close(parts[depth], {*map(str, node), *(taken or ())} - {"_target_"}, NEAR if taken else VERY_NEAR)
    paths = [".".join([*parts[:depth], name, *parts[depth + 1 :]]) for name in near]
    return paths if paths or taken is not None else None


def _taken_by(target: str) -> set[str] | None:
    """Return the names that what `_target_` names takes; None for one that takes any, or cannot be asked."""
    try:
        parameters = inspect.signature(get_object(target)).parameters.values()
    except Exception:  # whatever an import raises: building it tells
        return None
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return None if takes_any else {"_partial_", "_convert_", "_recursive_", *(one.name for one in parameters)}


def _no_setting(key: str, near: Sequence[str]) -> str:
    return f"no setting named {key}{suggestion(near)}; python run.py --cfg job lists them all"


def _composed(words: list[str]) -> DictConfig:
    """Compose, leaving out the overrides that Hydra refuses; without any, the defaults."""
    while words:
        try:
            return compose("config", words)
        except HydraException as error:
            refused = {key for cause in _causes(error) for key in UNKNOWN.findall(str(cause))}
            kept = [word for word in words if word.lstrip("+~").partition("=")[0] not in refused]
            words = kept if len(kept) < len(words) else []
    return compose("config")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _single(override: Override) -> str:
    """Return an override as one job has it, the first of a sweep's."""
    if not override.is_sweep_override():
        return str(override.input_line)
    first = next(iter(override.sweep_string_iterator()), "null")
    return f"{override.key_or_group}={first}"


def _written(cfg: DictConfig) -> dict[Any, Any]:
    container = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(container, dict), "a configuration has names"
    return {str(key): value for key, value in container.items()}


def _spelled(parts: Sequence[str], node: Any) -> Iterator[str]:
    """Yield the paths in `node` whose every part is that of `parts`, or near it."""
    if not isinstance(node, dict):
        return
    names = [name for name in map(str, node) if not name.startswith("_")]
    for name in [parts[0]] if parts[0] in names else close(parts[0], names):
        if len(parts) == 1:
            yield name
        else:
            yield from (f"{name}.{rest}" for rest in _spelled(parts[1:], node[name]))


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every setting below `node`."""
    for name, value in node.items() if isinstance(node, dict) else ():
        if not str(name).startswith("_"):
            yield f"{prefix}{name}"
            yield from _paths(value, f"{prefix}{name}.")


def _similarity(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _remove(tree: Any, parts: Sequence[str]) -> None:
    """Remove a path, and what is empty without it."""
    if isinstance(tree, dict) and parts[0] in tree:
        if len(parts) > 1:
            _remove(tree[parts[0]], parts[1:])
        if len(parts) == 1 or tree[parts[0]] == {}:
            del tree[parts[0]]
