"""Values that follow from weights, are worked out once, and belong to them as long as they stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class DerivedValue(Generic[T]):
    """Empty until `adopt`: then the value, with a copy of what it was derived from."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._sources = WeightSnapshot({})

    def adopt(self, value: T, sources: Mapping[str, Tensor]) -> None:
        self._value, self._sources = value, WeightSnapshot(sources)

    def belongs_to(self, sources: Mapping[str, Tensor]) -> bool:
        """Return whether it is there, and these are bit for bit what it was derived from."""
        return self._value is not None and self._sources.equals(sources)

    @property
    def value(self) -> T:
        assert self._value is not None, "the codec's update() derives it"
        return self._value


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class WeightSnapshot:
    """A copy of named tensors.

    The values themselves are kept and compared: addresses and version counters miss writes through `.data` and new
    tensors, and those made in inference mode have no counter.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._copies = {name: value.detach().clone() for name, value in state.items()}

    def equals(self, state: Mapping[str, Tensor]) -> bool:
        """Return whether names are the same, and for each the type, device, shape and bits."""
        return state.keys() == self._copies.keys() and all(
            _same(state[name], copy) for name, copy in self._copies.items()
        )


def _same(a: Tensor, b: Tensor) -> bool:
    """Compare bits: unlike ==, it tells -0.0 from 0.0 and takes NaN for itself."""
    return (a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(_words(a), _words(b))


def _words(value: Tensor) -> Tensor:
    """Return bits as integers of the tensor's own width: comparing single bytes takes four times as long."""
    return value.detach().contiguous().view(_INTEGERS[value.element_size()])
