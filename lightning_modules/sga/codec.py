"""The hyperprior on the grid of plain integers, as Yang et al. 2020 round for SGA, STE and deterministic annealing.

y and z are rounded to integers, not to the distance from their mean or median; means then shift the Gaussians under
which y is coded, in sixteenths. Everything else, and every weight, is `lightning_modules/hyperprior`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_modules.capabilities import Recoding
from lightning_modules.coding.shifted_tables import FRACTIONS, shifted_tables, split_means
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.hyperprior.coding_parameters import MEAN_BITS, derive
from lightning_modules.quantization import Quantizer
from lightning_modules.records import ImageSize, Latents, Synthesis


class IntegerGridCodec(Recoding, HyperpriorCodec):
    """A mean-scale hyperprior whose latents are coded as integers: `offset` is 0 for every quantizer."""

    codec_id = 2
    codes_weights_of = HyperpriorCodec

    def generate(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        return super().generate(latents, lambda value, offset: quantize(value, torch.zeros_like(value)))

    def generate_as_coded(self, latents: Latents, quantize: Quantizer) -> Synthesis:
        """Generate as `generate` does: the tables are those of the trained Gaussians, shifted."""
        return self.generate(latents, quantize)

    def update(self, scale_table: Any = None, force: bool = False) -> bool:
        """Update as the hyperprior does, with medians of 0, which centre the tables of z on the grid."""
        del scale_table
        if self._derived.belongs_to(self._sources()) and not force:
            return False
        with torch.no_grad():
            self.entropy_bottleneck.quantiles[:, :, 1] = 0.0
            self._derived.adopt(
                derive(self.h_s, self.entropy_bottleneck)._replace(y_tables=shifted_tables()), self._sources()
            )
        return True

    def calibrate(self, pictures: Iterable[Tensor]) -> None:
        del pictures
        raise CodingError(f"{type(self).__name__} codes with the tables of exact Gaussians; leave --calibrate out")

    def _coding_parameters(self, z: np.ndarray, size: ImageSize) -> tuple[np.ndarray, np.ndarray]:
        """Look up the hyperprior's parameters, the mean's fraction in the table's number, its base as the mean."""
        scale_index, mean = super()._coding_parameters(z, size)
        base, fraction = split_means(mean, MEAN_BITS)
        return scale_index.astype(np.int32) * FRACTIONS + fraction, base << MEAN_BITS
