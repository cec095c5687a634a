"""What a run folder says of the training that left a model in it: its experiment, its settings, its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from lightning_modules.checkpoints.data_fingerprint import DataFingerprint, fingerprints
from lightning_modules.errors import CodingError
from lightning_modules.sweeps.overrides import parse

RUN_FILE = "run.yaml"
PROVENANCE = "provenance"
LEVELS = 2
"""How deep in its run folder a model lies at most: `codec.safetensors`, `checkpoints/best.ckpt`."""

SHOWN = ("name", "lmbda", "seed", "steps", "steps_per_epoch", "ckpt")
"""Settings of a run that stand for it in a table; all of them are in `config`."""


class TrainingRecord(NamedTuple):
    """overrides: as typed. config: all settings, resolved; empty where the run has kept none. facts: of `provenance/`.

    data: of what the settings name, as far as it is still there.
    """

    folder: Path
    overrides: list[str]
    config: Mapping[str, Any]
    facts: Mapping[str, str]
    data: Mapping[str, list[DataFingerprint]]

    @property
    def experiment(self) -> str | None:
        """Return the experiment's name; None where the command line named none."""
        return dict(parse(text) for text in self.overrides).get("experiment")

    @property
    def settings(self) -> dict[str, Any]:
        return {name: self.config[name] for name in SHOWN if self.config.get(name) is not None}


def run_folder_of(model: Path) -> Path | None:
    """Return the folder of the run that left the file; None for a file that lies elsewhere."""
    near = list(model.resolve().parents)[:LEVELS]
    return next((folder for folder in near if (folder / RUN_FILE).is_file()), None)


def read_training(folder: Path) -> TrainingRecord:
    """Return what a run folder says of its training. Raises `CodingError` for files of the run that are damaged."""
    run = _read_yaml(folder / RUN_FILE)
    kept = folder / PROVENANCE
    config = _read_yaml(kept / "config.yaml")
    environment = _read_json(kept / "environment.json")
    facts = {
        name: text.strip()
        for name in ("command", "commit")
        if (path := kept / f"{name}.txt").is_file() and (text := path.read_text(encoding="utf-8", errors="replace"))
    }
    facts |= {name: str(environment[name]) for name in ("torch", "cpu", "gpus", "started") if environment.get(name)}
    where = Path(environment.get("working_folder", "."))
    data = fingerprints(config.get("datamodule") or {}, where)
    return TrainingRecord(folder, [str(text) for text in run.get("overrides") or []], config, facts, data)


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return a file's settings; empty for a file that is not there."""
    try:
        found: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    except Exception as error:  # whatever its parser stumbles over
        raise CodingError(f"{path}: cannot be read ({error}); move the model out of this folder") from None
    return found if isinstance(found, dict) else {}


def _read_json(path: Path) -> dict[str, Any]:
    """Return a file's values; empty for a file that is not there."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise CodingError(f"{path}: cannot be read ({error}); move the model out of this folder") from None
    return found if isinstance(found, dict) else {}
