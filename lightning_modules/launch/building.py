"""What a task is handed: its configuration, and what builds the objects that a configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_modules.launch.paths import folders_of_run


class ComposedRun:
    """Build the objects that `cfg` names; the `Run` of `lightning_modules.tasks.run` by Hydra's means."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    @property
    def choices(self) -> Mapping[str, str]:
        """Return what was chosen of each group of configurations, by the group's name."""
        return HydraConfig.get().runtime.choices

    def build(self, node: Any, **changes: Any) -> Any:
        """Instantiate a node of a configuration, with some of its values replaced."""
        return hydra.utils.instantiate(node, _convert_="all", **changes)

    def build_each(self, nodes: DictConfig | None) -> list[Any]:
        """Instantiate the nodes of a section that are not null; an absent section has none."""
        return [self.build(node) for node in (nodes or {}).values() if node is not None]

    def get_class(self, name: str) -> type:
        """Import a class by its dotted name."""
        return hydra.utils.get_class(name)

    def options(self, group: str) -> dict[str, DictConfig]:
        """Return what a group offers by name, each as its file has it, of every folder of configurations."""
        paths = [path for folder in folders_of_run() for path in sorted((folder / group).glob("*.yaml"))]
        loaded = {path.stem: OmegaConf.load(path) for path in reversed(paths)}
        return {name: node for name, node in sorted(loaded.items()) if isinstance(node, DictConfig)}

    def compose(self, overrides: list[str]) -> ComposedRun:
        """Return another run, whose configuration these overrides make."""
        cfg = hydra.compose("config", overrides)
        OmegaConf.set_struct(cfg, False)
        return ComposedRun(cfg)


def task_of(cfg: DictConfig) -> Callable[[ComposedRun], None]:
    """Return the function that the configuration of a task names, with the settings beside it filled in."""
    task: Callable[[ComposedRun], None] = hydra.utils.instantiate(cfg.task.run, _convert_="all", _partial_=True)
    return task
