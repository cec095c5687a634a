"""What follows from SIC's weights, is computed once, and stored with them: tables and integers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.coding.shifted_tables import shifted_tables
from lightning_modules.coding.tables import TAIL_MASS, CodingTables, tables_from_pmf
from lightning_modules.densities import factorized_pmfs
from lightning_modules.exact.network import part_of
from lightning_modules.sic.coding_parameters import SIGMAS, CodingParameters, integer_parameters
from lightning_modules.sic.integer_group import FRACTIONS
from lightning_modules.sic.networks import SicNetworks


class Derived(NamedTuple):
    """z_tables: one a channel of z. y_tables: one a sigma and fraction of a mean. parameters: to tables of y."""

    z_tables: CodingTables
    y_tables: CodingTables
    parameters: CodingParameters

    def state(self) -> dict[str, Tensor]:
        tables = {"tables.z": self.z_tables.state(), "tables.y": self.y_tables.state()}
        state = {f"{prefix}.{name}": torch.from_numpy(a) for prefix, part in tables.items() for name, a in part.items()}
        return state | {f"exact.{name}": value for name, value in self.parameters.state().items()}

    def least_bits(self, z_shape: Sequence[int]) -> float:
        """What z of shape (N, h, w) costs at the very least."""
        return float(math.prod(z_shape[1:]) * self.z_tables.least_bits.sum())

    @classmethod
    def from_state(cls, hs: nn.Sequential, state: Mapping[str, Tensor]) -> Derived:
        z_tables, y_tables = (CodingTables.from_state(part_of(state, prefix)) for prefix in ("tables.z.", "tables.y."))
        return cls(z_tables, y_tables, CodingParameters.from_state(hs, part_of(state, "exact.")))


def derive(networks: SicNetworks) -> Derived:
    """From weights whose medians are up to date."""
    z_tables = tables_from_pmf(*factorized_pmfs(networks.entropy_bottleneck, TAIL_MASS))
    return Derived(z_tables, shifted_tables(SIGMAS, FRACTIONS), integer_parameters(networks, z_tables))
