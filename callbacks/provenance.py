"""What explains a run a year later: configuration, commit and diff, versions, command, host."""

from __future__ import annotations

import json
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import OmegaConf

from callbacks.run_file import write_run_file

SOURCE = Path(__file__).resolve().parents[1]
MAX_DIFF_BYTES = 10_000_000


class Provenance(L.Callback):
    """Writes `provenance/` into the run folder when a run starts; a resumed run adds `provenance/<time>/`.

    config: the resolved configuration as plain containers.
    """

    def __init__(self, *, config: Mapping[str, Any]) -> None:
        self.config = config
        self._is_written = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        del pl_module
        if self._is_written or not trainer.is_global_zero:
            return
        self._is_written = True
        self.write(Path(trainer.default_root_dir), stage)

    def write(self, run_folder: Path, stage: str) -> None:
        """`provenance/` in a run's folder; a folder in that where it is there already."""
        now = datetime.now(timezone.utc)
        folder = run_folder / "provenance"
        if folder.exists():
            folder = folder / now.strftime("%Y-%m-%dT%H-%M-%S")
        for name, content in self.files(stage, now).items():
            write_run_file(folder / name, content)

    def files(self, stage: str, now: datetime) -> dict[str, str]:
        """Name -> content. `diff.patch` and `commit.txt` are empty outside a git checkout."""
        environment = {
            "stage": stage,
            "started": now.isoformat(timespec="seconds"),
            "seed": os.environ.get("PL_GLOBAL_SEED"),
            "working_folder": str(Path.cwd()),
            **host(),
        }
        return {
            "config.yaml": OmegaConf.to_yaml(OmegaConf.create(_plain(self.config))),
            "command.txt": shlex.join([sys.executable, *sys.argv]) + "\n",
            "commit.txt": _git("rev-parse", "HEAD") + _git("status", "--short"),
            "diff.patch": _git("diff", "HEAD")[:MAX_DIFF_BYTES],
            "versions.txt": "\n".join(installed_versions()) + "\n",
            "environment.json": json.dumps(environment, indent=2) + "\n",
        }


def installed_versions() -> list[str]:
    """`name==version` of every distribution that Python can import from."""
    found = {f"{item.metadata['Name']}=={item.version}" for item in distributions() if item.metadata["Name"]}
    return sorted(found, key=str.lower)


def host() -> dict[str, Any]:
    """Name, system, Python, processors and GPUs of this machine."""
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "python": sys.version,
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def _cpu_name() -> str:
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str:
    """Output of a git command on our own checkout; empty where there is none."""
    command = ["git", "-C", str(SOURCE), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode(errors="replace") if answer.returncode == 0 else ""


def _plain(value: Any) -> Any:
    """Mappings, lists and scalars as YAML knows them; anything else by its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
