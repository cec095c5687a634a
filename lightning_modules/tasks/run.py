"""What a task is handed: one run, its configuration and what builds the objects that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from omegaconf import DictConfig


class Run(Protocol):
    """Build what the configuration `cfg` of one run names; tasks know no other way."""

    cfg: DictConfig

    @property
    def choices(self) -> Mapping[str, str]:
        """Return what was chosen of each group of configurations, by the group's name."""

    def build(self, node: Any, **changes: Any) -> Any:
        """Return the object that a node with `_target_` names, with some of its values replaced."""

    def build_each(self, nodes: DictConfig | None) -> list[Any]:
        """Return the objects of a section, without those that are null; an absent section has none."""

    def get_class(self, name: str) -> type:
        """Return a class by its dotted name."""

    def options(self, group: str) -> dict[str, DictConfig]:
        """Return what a group of configurations offers by name, each as its file has it."""

    def compose(self, overrides: list[str]) -> Run:
        """Return another run, whose configuration these overrides of the defaults make."""
