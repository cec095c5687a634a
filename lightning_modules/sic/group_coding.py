"""The symbols of one group on a stack: front after front, position after position, channel after channel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.coding.serial_stack import SerialStack
from lightning_modules.coding.tables import INT32_MAX, INT32_MIN, CodingTables
from lightning_modules.errors import damaged
from lightning_modules.records import ImageSize
from lightning_modules.sic.coding_parameters import CodingParameters
from lightning_modules.sic.group_steps import Front, fill_group, fronts, parameters_at_once


class GroupSymbols(NamedTuple):
    """The symbols of one group: y minus base. keys: their tables. Both (g, h, w), int64."""

    symbols: NDArray[np.int64]
    keys: NDArray[np.int64]

    def push_to(self, stack: SerialStack, tables: CodingTables) -> None:
        _, height, width = self.keys.shape
        order = coding_order((height, width))
        symbols, keys = (part.reshape(len(part), -1)[:, order].T.ravel() for part in self)
        stack.push(symbols.tolist(), keys.tolist(), tables)


def symbols_of(parameters: CodingParameters, hyper: Tensor, y: Tensor, group: int) -> list[GroupSymbols]:
    """Find what to code of one group, of each picture. hyper: (B, 2C, h, w). y: (B, C, h, w) integers in float64."""
    width = parameters.width
    earlier, own = y[:, : group * width], y[:, group * width : (group + 1) * width]
    keys, base = parameters_at_once(parameters.groups[group], hyper, earlier, own)
    symbols = (own - base).to(torch.int64).numpy()
    return [GroupSymbols(*parts) for parts in zip(symbols, keys.to(torch.int64).numpy(), strict=True)]


def pop_group(
    stack: SerialStack, parameters: CodingParameters, tables: CodingTables, hyper: Tensor, earlier: Tensor
) -> Tensor:
    """Decode one group of one picture, (1, g, h, w) integers in float64, given those before, (1, k g, h, w).

    Raises `DamagedFile` when the stack does not hold it.
    """

    def source(front: Front, keys: Tensor, base: Tensor) -> Tensor:
        del front
        wanted = keys[0].T.flatten().to(torch.int64).tolist()
        found = torch.tensor(stack.pop(wanted, tables), dtype=torch.float64)
        return base + found.reshape(-1, parameters.width).T

    own = fill_group(parameters.groups[earlier.shape[1] // parameters.width], hyper, earlier, source)
    if own.numel() and not INT32_MIN <= own.min() <= own.max() <= INT32_MAX:
        raise damaged("a coded integer is out of range")
    return own


def coding_order(size: ImageSize) -> NDArray[np.int64]:
    """Return the (h w,) positions in the order of decoding, as row * w + column."""
    order: NDArray[np.int64] = torch.cat([front.rows * size[1] + front.columns for front in fronts(size)]).numpy()
    return order
