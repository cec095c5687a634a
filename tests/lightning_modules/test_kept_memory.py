"""Memory that is freed and taken again costs the kernel nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PAGES = """
import resource, sys
import numpy as np
from lightning_modules.kept_memory import keep_freed_memory

def use():
    arrays = [np.ones(3 << 17) for _ in range(4)]
    del arrays

assert keep_freed_memory() is (sys.argv[1] == "kept")
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")


def page_faults(expected: str, **environment: str) -> int:
    command = [sys.executable, "-c", PAGES, expected]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_arrays_of_every_step_lie_in_pages_the_process_has() -> None:
    assert page_faults("kept") < 100, "of 12 MB a step, 3000 pages"


def test_users_settings_of_the_allocator_stand() -> None:
    assert page_faults("theirs", MALLOC_TRIM_THRESHOLD_="131072") >= 0
