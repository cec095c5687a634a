"""What follows from weights, is worked out once, and belongs to them as long as they stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from torch import Tensor

from lightning_modules.weight_snapshot import WeightSnapshot

T = TypeVar("T")


class DerivedValue(Generic[T]):
    """Empty until `adopt`: then the value, with a copy of what it was derived from."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._sources = WeightSnapshot({})

    def adopt(self, value: T, sources: Mapping[str, Tensor]) -> None:
        self._value, self._sources = value, WeightSnapshot(sources)

    def belongs_to(self, sources: Mapping[str, Tensor]) -> bool:
        """Whether it is there, and these are bit for bit what it was derived from."""
        return self._value is not None and self._sources.equals(sources)

    @property
    def value(self) -> T:
        assert self._value is not None, "the codec's update() derives it"
        return self._value
