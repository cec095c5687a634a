"""What named weights of this family say of their model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lightning_modules.codec import CodingError

LAST_OF_G_A = "g_a.6.weight"
"""(M, N, 5, 5): tells both sizes of a model."""


def sizes(state: Mapping[str, Tensor], kind: str) -> tuple[int, int]:
    """N and M, read off the last layer of g_a. kind: what the weights should be, for the error."""
    last = state.get(LAST_OF_G_A)
    if last is None or last.ndim != 4:
        raise CodingError(f"not a {kind}: it has no {LAST_OF_G_A} of 4 dimensions")
    return last.shape[1], last.shape[0]
