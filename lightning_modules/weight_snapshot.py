"""Whether tensors are, bit for bit, what they were: what derived state asks before it is used again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class WeightSnapshot:
    """A copy of named tensors.

    The values themselves are kept and compared: addresses and version counters miss writes through `.data` and new
    tensors, and those made in inference mode have no counter.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._copies = {name: value.detach().clone() for name, value in state.items()}

    def equals(self, state: Mapping[str, Tensor]) -> bool:
        """Same names, and for each the same type, device, shape and bits."""
        return state.keys() == self._copies.keys() and all(
            _same(state[name], copy) for name, copy in self._copies.items()
        )


def _same(a: Tensor, b: Tensor) -> bool:
    """Unlike ==, tells -0.0 from 0.0 and takes NaN for itself."""
    return (a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(_words(a), _words(b))


def _words(value: Tensor) -> Tensor:
    """Its bits as integers, of its own width: comparing single bytes takes four times as long."""
    return value.detach().contiguous().view(_INTEGERS[value.element_size()])
