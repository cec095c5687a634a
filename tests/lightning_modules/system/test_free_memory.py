"""Free memory is what the machine can hand out, within the limits of the groups that the process lives in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from lightning_modules.system.free_memory import free_memory, group_memory


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_it_is_what_the_machine_can_hand_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=320 * 1024))
    assert 0 <= free_memory(torch.device("cpu")) <= 320 * 1024


def test_every_group_above_the_process_limits_it(tmp_path: Path) -> None:
    membership = write(tmp_path / "cgroup", "9:name=systemd:/elsewhere\n0::/user/shell\n")
    for folder, limit, usage in (("", "9000", "100"), ("user", "max", "100"), ("user/shell", "700", "150")):
        write(tmp_path / "mount" / folder / "memory.max", limit + "\n")
        write(tmp_path / "mount" / folder / "memory.current", usage + "\n")
    assert sorted(group_memory(membership, tmp_path / "mount")) == [550, 8900]


def test_a_container_sees_the_topmost_group_of_version_1_only(tmp_path: Path) -> None:
    membership = write(tmp_path / "cgroup", "4:memory:/docker/0a1b\n3:cpuset:/\n")
    write(tmp_path / "mount" / "memory" / "memory.limit_in_bytes", "4096")
    write(tmp_path / "mount" / "memory" / "memory.usage_in_bytes", "1000")
    assert group_memory(membership, tmp_path / "mount") == [3096]


def test_a_system_without_groups_has_no_limits(tmp_path: Path) -> None:
    assert group_memory(tmp_path / "cgroup", tmp_path / "mount") == []


def test_this_machine_has_free_memory() -> None:
    assert 1 << 20 < free_memory(torch.device("cpu")) < 1 << 50
