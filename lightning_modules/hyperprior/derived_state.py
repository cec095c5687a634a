"""What follows from the hyperprior's weights, is computed once, and stored with them: tables and integers."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor, nn

from lightning_modules.coding.tables import SCALES, TAIL_MASS, CodingTables, gaussian_tables, tables_from_pmf
from lightning_modules.densities import factorized_pmfs, medians
from lightning_modules.exact.network import part_of
from lightning_modules.hyperprior.coding_parameters import CodingParameters, integer_parameters


@functools.cache
def scale_tables() -> CodingTables:
    """The tables of y: one for each sigma of the ladder, the same for every model."""
    return gaussian_tables(SCALES)


class Derived(NamedTuple):
    """z_tables: one a channel of z. y_tables: one a scale. parameters: from z to tables and means of y."""

    z_tables: CodingTables
    y_tables: CodingTables
    parameters: CodingParameters

    def state(self) -> dict[str, Tensor]:
        tables = {"tables.z": self.z_tables.state(), "tables.y": self.y_tables.state()}
        state = {f"{prefix}.{name}": torch.from_numpy(a) for prefix, part in tables.items() for name, a in part.items()}
        return state | {f"exact.{name}": value for name, value in self.parameters.state().items()}

    def least_bits(self, z_shape: Sequence[int], y_shape: Sequence[int]) -> float:
        """What z and y of these shapes, (N, h, w) and (M, h, w), cost at the very least."""
        z_positions = math.prod(z_shape[1:])
        least = z_positions * self.z_tables.least_bits.sum() + math.prod(y_shape) * self.y_tables.least_bits.min()
        return float(least)

    @classmethod
    def from_state(cls, h_s: nn.Sequential, state: Mapping[str, Tensor]) -> Derived:
        z_tables, y_tables = (CodingTables.from_state(part_of(state, prefix)) for prefix in ("tables.z.", "tables.y."))
        return cls(z_tables, y_tables, CodingParameters.from_state(h_s, exact_state(state)))


def derive(h_s: nn.Sequential, bottleneck: EntropyBottleneck) -> Derived:
    """From weights whose medians are up to date."""
    z_tables = tables_from_pmf(*factorized_pmfs(bottleneck, TAIL_MASS))
    return Derived(z_tables, scale_tables(), integer_parameters(h_s, medians(bottleneck), z_tables))


def exact_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `CodingParameters.from_state` takes; empty where no integers are stored."""
    return part_of(state, "exact.")
