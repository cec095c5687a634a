"""How much memory this process may still take: of the machine, and of the control groups, which psutil leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

_LIMIT_AND_USAGE = {
    "": ("memory.max", "memory.current"),  # control groups, version 2: no list of controllers
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a CUDA device, or of this machine and of the control groups that hold this process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return max(
        0, min([psutil.virtual_memory().available, *group_memory(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])
    )


def group_memory(membership: Path, mount: Path) -> list[int]:
    """Return limit minus usage, in bytes, of each group in `membership` (/proc/self/cgroup) that has a limit.

    Usage includes cached files, which the system would give up first: free memory is understated, never overstated.
    """
    found = []
    for folder, limit, usage in _groups(membership, mount):
        try:
            found.append(int((folder / limit).read_text()) - int((folder / usage).read_text()))
        except (OSError, ValueError):  # not visible from inside a container, or no limit ("max")
            continue
    return found


def _groups(membership: Path, mount: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield each group's folder, and those above it, whose limits hold too; a container may see the topmost only."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in _LIMIT_AND_USAGE:
            parts = Path(path).parts[1:]
            for depth in range(len(parts) + 1):
                yield mount.joinpath(controllers, *parts[:depth]), *_LIMIT_AND_USAGE[controllers]
