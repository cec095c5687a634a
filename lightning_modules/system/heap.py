"""glibc told to keep what a process frees: the arrays of one step are those of the next.

By default it hands the top of its heap back as soon as some 100 KB are free there, and takes memory for larger arrays
from the system anew. Coding and refining free and take the same megabytes thousands of times a second, and up to half
of their time went into the kernel's clearing of pages (mallopt(3); benchmarks, row 26).
"""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, of malloc.h."""
KEPT = 512 << 20
"""Bytes free at the top of the heap before any are handed back."""
LARGEST_KEPT = 32 << 20
"""Of one array; the most that glibc takes. Larger ones are handed back as they are freed."""
USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Keep freed memory in this process from now on; False where the C library is another or users chose themselves."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in USERS_OWN):
        return False
    return all(mallopt(name, value) for name, value in ((TRIM_THRESHOLD, KEPT), (MMAP_THRESHOLD, LARGEST_KEPT)))
