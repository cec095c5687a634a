"""The differentiable densities behind calibrated tables of y: a refinement minimises the coded length by them.

Each table is a member of the family of `lightning_modules/hyperprior/calibration.py`, known by its width and the
weight of its tail. They are read off the table itself, so that a model stores nothing but what its decoder uses.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np
import torch
from compressai.entropy_models import GaussianConditional
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.coding.tables import SCALES, TOTAL, CodingTables, nearest_scale_index
from lightning_modules.densities import box_likelihood
from lightning_modules.hyperprior.calibration import TAIL_WIDTH, WEIGHTS, WIDTHS, box_mass

FAMILY = np.array([(1.0, 0.0), *itertools.product(WIDTHS, WEIGHTS)])
"""(F, 2) width and weight of each member; the first is the Gaussian as trained."""

POINTS = 64
"""Magnitudes at which a table is compared with the family."""


class TableMixtures(NamedTuple):
    """The mixture behind each table. widths, weights: (K,) float32, one for each sigma of the ladder."""

    widths: Tensor
    weights: Tensor

    def likelihood(self, conditional: GaussianConditional, y_hat: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        """Compute P(y_hat | z) under the density of the table that scales choose; all (B, M, h, w), float32.

        Bounds are those of `gaussian_likelihood`; sigma stays the network's own, near that of the table.
        """
        scales = conditional.lower_bound_scale(scales.float())
        table = nearest_scale_index(scales.detach().contiguous())
        width, weight = (values.to(y_hat.device)[table] for values in self)
        distance = (y_hat.float() - means.float()).abs()
        near = box_likelihood(distance, scales * width)
        far = box_likelihood(distance, scales * width * TAIL_WIDTH)
        return conditional.likelihood_lower_bound(torch.lerp(near, far, weight))


@functools.lru_cache(maxsize=4)
def table_mixtures(tables: CodingTables) -> TableMixtures:
    """Read off the mixtures behind tables, one for each sigma of the ladder, each symmetric about 0."""
    members = np.array([_nearest_member(tables, k, float(sigma)) for k, sigma in enumerate(SCALES)])
    widths, weights = torch.from_numpy(FAMILY[members].T).float()
    return TableMixtures(widths, weights)


def _nearest_member(tables: CodingTables, k: int, sigma: float) -> int:
    """Find the member of least divergence, sum of p ln(p / q) - p + q over some magnitudes, from table k."""
    magnitudes = np.unique(np.linspace(0, tables.highest[k], POINTS).astype(np.int64))
    p = tables.frequencies[tables.starts[k] - tables.lowest[k] + magnitudes] / TOTAL
    q = np.maximum(_family_pmfs(magnitudes, sigma), 1 / TOTAL)
    return int(np.argmin((p * np.log(p / q) - p + q).sum(axis=1)))


def _family_pmfs(magnitudes: NDArray[np.int64], sigma: float) -> NDArray[np.float64]:
    """Compute the (F, n) probability of each magnitude, on one side, under each member."""
    widths, weights = FAMILY[:, :1], FAMILY[:, 1:]
    near, far = (box_mass(magnitudes, sigma * widths * factor) for factor in (1.0, TAIL_WIDTH))
    return (1.0 - weights) * near + weights * far
