"""Blocks of a latent in units of their prior: what the samplers of the room work on.

With u = (z - nu) / sigma the prior is N(0, 1) in every dimension and the posterior N(mean, ratio). Blocks of several
sizes are stacked; the dimensions that a short block lacks have mean 0 and ratio 1, which carry no information, so
they change no bit of any sum. Legend: N blocks, D dimensions of the longest, T shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lightning_modules.exact.torch_functions import ln, tree_sum
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian, kl_divergence, kl_profile

ELEMENTS_AT_ONCE = 1 << 20


class Targets(NamedTuple):
    """Posteriors in prior units, float64.

    mean: (N, D). ratio: (N, D), posterior variance over prior variance, > 0; above 1 is allowed. sizes: (N,) int64.
    """

    mean: Tensor
    ratio: Tensor
    sizes: Tensor

    def kl(self) -> Tensor:
        """Return nats (N,)."""
        return kl_divergence(self._posterior, self._prior)

    def kl_profile(self, revealed: Tensor) -> Tensor:
        """Return nats (N, T) of the partial sums that hold the shares `revealed` (T,) of prior variance."""
        at_once = max(1, ELEMENTS_AT_ONCE // (len(revealed) * self.mean.shape[1]))
        parts = [self.rows(slice(k, k + at_once)) for k in range(0, len(self.mean), at_once)]
        return torch.cat([kl_profile(part._posterior, part._prior, revealed) for part in parts])

    def log_ratio(self, u: Tensor) -> Tensor:
        """Return log q(u) / p(u) (N,) in nats, at u (N, D)."""
        away = u - self.mean
        return 0.5 * tree_sum((u * u - away * away / self.ratio) - ln(self.ratio))

    def rows(self, chosen: Tensor | slice) -> Targets:
        """Return some of the blocks."""
        return Targets(self.mean[chosen], self.ratio[chosen], self.sizes[chosen])

    def trimmed(self) -> Targets:
        """Return the blocks without the dimensions that none of them has."""
        longest = int(self.sizes.max())
        return Targets(self.mean[:, :longest], self.ratio[:, :longest], self.sizes)

    @property
    def _posterior(self) -> Gaussian:
        return Gaussian(self.mean, torch.sqrt(self.ratio))

    @property
    def _prior(self) -> Gaussian:
        return Gaussian(torch.zeros_like(self.mean), torch.ones_like(self.ratio))


def stack_targets(means: Sequence[Tensor], ratios: Sequence[Tensor]) -> Targets:
    """Join blocks (D_n,) to one record. Raises ValueError for numbers no coder can work with."""
    sizes = torch.tensor([len(mean) for mean in means], dtype=torch.int64, device=means[0].device)
    mean = pad_sequence(list(means), batch_first=True, padding_value=0.0)
    ratio = pad_sequence(list(ratios), batch_first=True, padding_value=1.0)
    if not bool(torch.isfinite(mean).all() and torch.isfinite(ratio).all() and (ratio > 0).all()):
        raise ValueError(
            "a posterior or prior has a mean or a standard deviation that is not finite or not above 0: bound the "
            "scales that the networks give"
        )
    return Targets(mean, ratio, sizes)
