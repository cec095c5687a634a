"""The configuration of one job of a sweep as its processes read it: composed once, and never again.

Overrides are not parsed a second time, and what a resolver has computed (a time, something drawn at random) is the
same in all processes of a job, and when the job goes on after an interruption. References inside the configuration
stay references, since tasks fill in values that others refer to; so do those to Hydra's own, which is frozen too.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf

from lightning_modules.sweeps import record
from lightning_modules.system.atomic_file import write_atomically

FROZEN_NAME = "frozen.yaml"
CHECKPOINT = Path("checkpoints", "last.ckpt")
"""In a training's folder: where it goes on."""

RESOLVER = re.compile(r"\$\{\s*([\w.]+)\s*:")
"""The name of a resolver that a value calls."""


class FrozenJob(NamedTuple):
    """key: hash of the configuration as it was composed. config: of the job. hydra: Hydra's own, without references."""

    key: str
    config: DictConfig
    hydra: DictConfig


def freeze(config: DictConfig, hydra: Any, folder: Path) -> None:
    """Leave a job's configuration in its folder. hydra: Hydra's own, as plain containers.

    One that is there already, of an equal configuration, stays, and a training goes on from its last checkpoint.
    Raises what a resolver raises.
    """
    key, path = key_of(config), folder / FROZEN_NAME
    frozen = read(folder) if path.is_file() else None
    if frozen is not None and frozen.key == key:
        values: Any = OmegaConf.to_container(frozen.config)
        if (folder / CHECKPOINT).is_file():
            values["resume"] = str(folder)
    else:
        values = _frozen(OmegaConf.to_container(config), config)
    text = OmegaConf.to_yaml(OmegaConf.create({"key": key, "config": values, "hydra": hydra}))
    write_atomically(path, text.encode("utf-8", "surrogateescape"))


def read(folder: Path) -> FrozenJob:
    """Raises `OSError` where there is none."""
    text = (folder / FROZEN_NAME).read_bytes().decode("utf-8", "surrogateescape")
    stored: Any = OmegaConf.to_container(OmegaConf.create(text))
    config = DictConfig(stored["config"])  # a root of its own, for references
    OmegaConf.set_struct(config, True)
    return FrozenJob(stored["key"], config, DictConfig(stored["hydra"]))


def is_done(folder: Path) -> bool:
    """Return whether nothing is left to do for the configuration that is frozen there."""
    left = record.read(folder)
    return left is not None and left.error is None and left.config == read(folder).key


def key_of(config: DictConfig) -> str:
    """Return a key that is the same for equal settings, whatever the folder, the machine and the time."""
    return hashlib.sha256(OmegaConf.to_yaml(config).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _frozen(raw: Any, node: Any) -> Any:
    """`raw`, which has the texts of `node`, with the values of those that call a resolver."""
    if isinstance(raw, dict):
        return {key: _frozen_item(value, node, key) for key, value in raw.items()}
    if isinstance(raw, list):
        return [_frozen_item(value, node, index) for index, value in enumerate(raw)]
    return raw


def _frozen_item(raw: Any, parent: Any, key: Any) -> Any:
    if not isinstance(raw, str):
        return raw if raw is None or not isinstance(raw, (dict, list)) else _frozen(raw, parent[key])
    if not set(RESOLVER.findall(raw)) - {"hydra"}:
        return raw
    value = parent[key]
    is_node = isinstance(value, (DictConfig, ListConfig))
    return OmegaConf.to_container(value, resolve=True) if is_node else value
