"""Groups of configurations: those that a run takes whole, and their list in `--help`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from lightning_modules.launch.paths import CONF, folders_of_command

TAKEN_WHOLE = ("decoding",)
"""Groups each of whose files belongs to every run: what users choose about files they read, whoever made them."""

OWNER = re.compile(r"# Only for (\w+):")
"""Begins each file of a group that one system alone uses."""


def take_whole(folders: Iterable[Path]) -> None:
    """Offer `all` in the groups that a run takes whole: every file that `folders` have there."""
    for group in TAKEN_WHOLE:
        names = sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})
        ConfigStore.instance().store(name="all", group=group, node={"defaults": names}, package="_global_")


def list_of_groups() -> str:
    """Return a line for each group with what it offers; groups of one system stand together below the others."""
    files: dict[str, dict[str, Path]] = {}
    for folder in folders_of_command():
        for path in sorted(folder.rglob("*.yaml")):
            group = path.parent.relative_to(folder).as_posix()
            if path.parent != folder and not group.startswith("hydra"):
                files.setdefault(group, {}).setdefault(path.stem, path)
    lines: dict[str, list[str]] = {}
    for group, paths in sorted(files.items()):
        lines.setdefault(_owner(paths.values()), []).append(f"{group}: {', '.join(sorted(paths))}")
    shared = lines.pop("", [])
    own = [line for owner in sorted(lines) for line in (f"Only for {owner}:", *(f"  {each}" for each in lines[owner]))]
    return "\n".join([*shared, *own])


def _owner(paths: Iterable[Path]) -> str:
    """Return the one system that all files of a group are for; nothing where they are for several."""
    owners = {found[1] if (found := OWNER.match(_first_line(path))) else "" for path in paths}
    return owners.pop() if len(owners) == 1 else ""


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline()


OmegaConf.register_new_resolver(list_of_groups.__name__, list_of_groups, replace=True)
take_whole([CONF])
