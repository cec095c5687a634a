"""Values that follow from weights, are worked out once, and belong to them as long as they stay as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from lightning_modules.coding.tables import CodingTables
from lightning_modules.exact.network import part_of

T = TypeVar("T")


class Storable(Protocol):
    """Something that a model stores as tensors."""

    def state(self) -> dict[str, Tensor]:
        """Return its tensors by name."""


P = TypeVar("P", bound=Storable)


class CodingState(NamedTuple, Generic[P]):
    """The tables and integers that a hyperprior's files are coded with, stored with its weights.

    z_tables: one a channel of z. y_tables: one a scale, or a scale and a fraction of a mean. parameters: from z to the
    tables of y.
    """

    z_tables: CodingTables
    y_tables: CodingTables
    parameters: P

    def state(self) -> dict[str, Tensor]:
        """Return both tables (`tables.z.*`, `tables.y.*`) and the parameters (`exact.*`)."""
        tables = {"tables.z": self.z_tables.state(), "tables.y": self.y_tables.state()}
        state = {f"{prefix}.{name}": torch.from_numpy(a) for prefix, part in tables.items() for name, a in part.items()}
        return state | {f"exact.{name}": value for name, value in self.parameters.state().items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], parameters: P) -> CodingState[P]:
        """Read the tables of `state`; its parameters have been read. Raises `KeyError` when a table is missing."""
        z_tables, y_tables = (CodingTables.from_state(part_of(state, prefix)) for prefix in ("tables.z.", "tables.y."))
        return cls(z_tables, y_tables, parameters)

    def least_bits_of_z(self, z_shape: Sequence[int]) -> float:
        """Return the least that z of shape (N, h, w) can cost, in bits."""
        return float(math.prod(z_shape[1:]) * self.z_tables.least_bits.sum())


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
