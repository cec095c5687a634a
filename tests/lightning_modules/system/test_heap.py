"""Memory that is freed and taken again costs the kernel nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from lightning_modules.system.heap import keep_freed_memory

def use():
    arrays = [np.ones(3 << 17) for _ in range(4)]
    del arrays

print(keep_freed_memory())
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")


def run(**environment: str) -> tuple[bool, int]:
    """Whether a process keeps its memory, and its page faults in twenty steps."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    is_kept, faults = done.stdout.split()
    return is_kept == "True", int(faults)


def test_arrays_of_every_step_lie_in_pages_the_process_has() -> None:
    is_kept, faults = run()
    assert is_kept
    assert faults < 100, "of 12 MB a step, 3000 pages"


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_users_settings_of_the_allocator_stand(name: str) -> None:
    is_kept, _ = run(**{name: "131072"})
    assert not is_kept
