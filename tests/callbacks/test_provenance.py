"""A run folder says what was run, from which code, with which versions, on which machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import OmegaConf

from callbacks import provenance
from callbacks.provenance import Provenance

CONFIG = {"lmbda": 0.01, "module": {"_target_": "a.B", "betas": [0.9, 0.99]}, "ckpt": None, "text": "ü: #"}
FILES = ["command.txt", "commit.txt", "config.yaml", "diff.patch", "environment.json", "versions.txt"]


def start(folder: Path, stage: str = "fit", is_first: bool = True, callback: Provenance | None = None) -> None:
    trainer: Any = SimpleNamespace(default_root_dir=str(folder), is_global_zero=is_first)
    (callback or Provenance(config=CONFIG)).setup(trainer, L.LightningModule(), stage)


def test_the_run_folder_explains_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "experiment=x", "input=with space"])
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    start(tmp_path)
    folder = tmp_path / "provenance"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")) == CONFIG
    assert (folder / "command.txt").read_text() == f"{sys.executable} run.py experiment=x 'input=with space'\n"
    assert f"torch=={torch.__version__.partition('+')[0]}" in (folder / "versions.txt").read_text()
    environment = json.loads((folder / "environment.json").read_text())
    assert (environment["stage"], environment["seed"]) == ("fit", "7")
    assert {"host", "cpu", "gpus", "python", "started"} <= environment.keys()


def test_commit_and_diff_are_those_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        command = ["git", "-C", str(source), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init")
    (source / "file.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-m", "first")
    (source / "file.py").write_text("a = 2\n")
    monkeypatch.setattr(provenance, "SOURCE", source)
    start(tmp_path)
    folder = tmp_path / "provenance"
    assert (folder / "commit.txt").read_text() == git("rev-parse", "HEAD") + " M file.py\n"
    assert "-a = 1\n+a = 2\n" in (folder / "diff.patch").read_text()


def test_outside_a_checkout_the_rest_is_still_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "SOURCE", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    start(tmp_path)
    assert (tmp_path / "provenance" / "commit.txt").read_text() == ""
    assert sorted(path.name for path in (tmp_path / "provenance").iterdir()) == FILES


def test_the_stages_of_a_run_are_noted_once_and_a_resumed_run_beside_the_first(tmp_path: Path) -> None:
    callback = Provenance(config=CONFIG)
    start(tmp_path, callback=callback)
    start(tmp_path, "test", callback=callback)
    assert sorted(path.name for path in (tmp_path / "provenance").iterdir()) == FILES
    first = (tmp_path / "provenance" / "environment.json").read_text()
    start(tmp_path)
    (again,) = (path for path in (tmp_path / "provenance").iterdir() if path.is_dir())
    assert sorted(path.name for path in again.iterdir()) == FILES
    assert (tmp_path / "provenance" / "environment.json").read_text() == first


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    start(tmp_path, is_first=False)
    assert list(tmp_path.iterdir()) == []
