"""Running out of memory is one line; no other error is taken for it."""

from __future__ import annotations

import pytest

from lightning_modules.errors import CodingError
from lightning_modules.system.memory_shortage import as_coding_error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 80 bytes"),
    ],
    ids=["numpy", "CUDA", "CPU"],
)
def test_a_shortage_is_the_given_line(error: Exception) -> None:
    with pytest.raises(CodingError, match=r"^buy more$"), as_coding_error("buy more"):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), as_coding_error("buy more"):
        raise error
