"""Variational autoencoders with several levels of latents, as far as training and coding treat them alike.

    sender     x --infer--> features; level by level: features, prior --posterior--> q, z from q
    receiver   level by level: prior from what is known --> z;  at the end what pixels follow from

`generate` is the only way through the levels. How z is had at a level is an argument, a `Draw`: a sample of the
posterior in training, a coded sample in a sender, a decoded one in a receiver. And so are the networks that it is
computed with: those that are trained, or integer ones (`lightning_modules/rec/models/integer_networks.py`).
Legend: B images, C latent channels of a level, h x w positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.exact.torch_functions import exp, ln
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian
from lightning_modules.records import ImageSize


class Prior(NamedTuple):
    """The prior of one level, (B, C, h, w) each. spread: what `ScaleMap` makes a standard deviation of.

    context: what else of the generative side a posterior is computed with.
    """

    mean: Tensor
    spread: Tensor
    context: Tensor


Draw = Callable[[int, Prior], Tensor]
"""(level, its prior) -> z (B, C, h, w), in the prior's type."""

KL = Callable[[Gaussian, Gaussian, Tensor], Tensor]
"""(posterior, prior, z) -> nats, elementwise, (B, C, h, w)."""

Network = Callable[[Tensor], Tensor]
"""A network of the generative side."""


class ScaleMap(NamedTuple):
    """Two ways to the same standard deviation: differentiable, and in float64 with the same bits on every machine."""

    trained: Callable[[Tensor], Tensor]
    portable: Callable[[Tensor], Tensor]


LEAST_LOG, MOST_LOG = -10.0, 5.0

EXPONENTIAL = ScaleMap(
    lambda spread: spread.clamp(LEAST_LOG, MOST_LOG).exp(), lambda spread: exp(spread.clamp(LEAST_LOG, MOST_LOG))
)
"""Within bounds, without which a KL could be infinite."""

LEAST_DEVIATION = 1e-6
LINEAR_FROM = 30.0
"""From here on, softplus is the identity within float64."""


def _portable_softplus(spread: Tensor) -> Tensor:
    bounded = spread.clamp(-LINEAR_FROM, LINEAR_FROM)
    return torch.where(spread > LINEAR_FROM, spread, ln(exp(bounded) + 1.0)) + LEAST_DEVIATION


SOFTPLUS = ScaleMap(lambda spread: F.softplus(spread) + LEAST_DEVIATION, _portable_softplus)


class Hierarchy(nn.Module, ABC):
    """A variational autoencoder with levels of latents. stride: pictures are continued to multiples of it.

    scale_map: of all priors and posteriors. channels: C of each level, in the order in which they are drawn.
    pieces: the networks that a receiver needs.
    """

    scale_map: ClassVar[ScaleMap]
    stride: int
    channels: tuple[int, ...]
    pieces: nn.ModuleDict

    @property
    def trained(self) -> dict[str, Network]:
        """Return the networks that are trained, by name."""
        return dict(self.pieces.items())

    def layers_of(self, piece: str) -> nn.Sequential:
        return cast(nn.Sequential, self.trained[piece])

    def outputs_of(self, piece: str) -> int:
        """Return the channels that a network gives: those of its last layer, a convolution."""
        outputs: int = list(self.layers_of(piece))[-1].out_channels  # type: ignore[assignment]
        return outputs

    @abstractmethod
    def latent_sizes(self, size: ImageSize) -> list[ImageSize]:
        """Return (h, w) of each level for a picture of this size, a multiple of the stride."""

    @abstractmethod
    def infer(self, x: Tensor) -> Sequence[Tensor]:
        """Return what `posterior` needs of x (B, 3, H, W) in [0, 1], for each level."""

    @abstractmethod
    def posterior(self, level: int, feature: Tensor, prior: Prior) -> Gaussian:
        """Return q of a level, whose prior was computed with the z of the levels before."""

    @abstractmethod
    def generate(self, pieces: Mapping[str, Network], like: Tensor, size: ImageSize, draw: Draw) -> Tensor:
        """Return the state that pictures of a size, a multiple of the stride, are made of.

        like: (B, ...), of the device and type to compute in.
        """

    def output(self, pieces: Mapping[str, Network], state: Tensor) -> Tensor:
        """Return what a receiver computes once all z are known; where there is nothing to compute, the state."""
        del pieces
        return state

    def rehearse(self, pieces: Mapping[str, Network], like: Tensor, size: ImageSize, draw: Draw) -> None:
        """Have every piece see what it sees in use, as nearly as can be without pictures."""
        self.output(pieces, self.generate(pieces, like, size, draw))

    @abstractmethod
    def output_fractions(self, piece: str) -> Tensor:
        """Return the fractional bits (D,) of the outputs of an integer network."""


def analytic_kl(posterior: Gaussian, prior: Gaussian) -> Tensor:
    """Return KL(q || p) in nats, elementwise."""
    ratio = posterior.std / prior.std
    shift = (posterior.mean - prior.mean) / prior.std
    return 0.5 * (ratio.square() + shift.square() - 1.0) - ratio.log()


def sampled_kl(posterior: Gaussian, prior: Gaussian, z: Tensor) -> Tensor:
    """Return log q(z) - log p(z) in nats, elementwise."""
    from_q, from_p = (z - posterior.mean) / posterior.std, (z - prior.mean) / prior.std
    return 0.5 * (from_p.square() - from_q.square()) + (prior.std / posterior.std).log()


def analytic(posterior: Gaussian, prior: Gaussian, z: Tensor) -> Tensor:
    """Compute a `KL` that no sample adds noise to."""
    del z
    return analytic_kl(posterior, prior)


def fixed_noise() -> Callable[[Tensor], Tensor]:
    """Return what draws standard normal numbers like a tensor, the same ones after each call of this."""
    generator = torch.Generator().manual_seed(0)
    return lambda like: torch.randn(like.shape, generator=generator).to(like)
