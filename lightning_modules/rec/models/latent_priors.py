"""Priors of the MNIST model's latents: the standard normal, which files are coded under, and three that are learned.

The learned ones make the evidence bound larger; their samples cannot be named by shared Gaussians, so they have no
files. iREC's code has them as side experiments: mixtures of Gaussians and VampPrior (Tomczak, Welling 2018), both in
each dimension for itself, and SNIS (Lawson et al. 2019). Legend: B images, D latents, h x w fields, K components.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.errors import CodingError
from lightning_modules.rec.models.hierarchy import KL
from lightning_modules.rec.samplers.auxiliary_variables import Gaussian

LEAST_DEVIATION = 1e-5
LOG_TWO_PI = math.log(2.0 * math.pi)

Noise = Callable[[Tensor], Tensor]
"""Standard normal numbers like a tensor's."""
Encode = Callable[[Tensor], Gaussian]
"""Pictures (K, 784, 1, 1) in [0, 1] -> their posteriors (K, D, 1, 1)."""


class LatentPrior(nn.Module):
    """A prior of latents. has_files: samples under it can be coded."""

    has_files: ClassVar[bool]

    @abstractmethod
    def kl(self, under_normal: KL, noise: Noise, encode: Encode) -> KL:
        """Return nats of a posterior over this prior. under_normal: the same over the standard normal."""


class StandardNormal(LatentPrior):
    has_files = True

    def kl(self, under_normal: KL, noise: Noise, encode: Encode) -> KL:
        del noise, encode
        return under_normal


class Mixture(LatentPrior):
    """K Gaussians of equal weight in each dimension, means uniform in -1 ... 1 at first."""

    has_files = False

    def __init__(self, latents: int, *, components: int) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.empty(components, latents).uniform_(-1.0, 1.0))
        self.spreads = nn.Parameter(torch.empty(components, latents).uniform_(-1.0, 1.0))

    def kl(self, under_normal: KL, noise: Noise, encode: Encode) -> KL:
        del under_normal, noise, encode
        deviations = F.softplus(self.spreads) + LEAST_DEVIATION
        return lambda q, _, z: log_normal(z, q) - log_mixture(z, self.means, deviations)


class Vamp(LatentPrior):
    """The mixture, in each dimension, of the posteriors of K pictures, uniform in 0 ... 1 at first and kept there."""

    has_files = False

    def __init__(self, latents: int, *, pseudo_inputs: int, pixels: int) -> None:
        super().__init__()
        del latents
        self.pseudo_inputs = nn.Parameter(torch.rand(pseudo_inputs, pixels))

    def kl(self, under_normal: KL, noise: Noise, encode: Encode) -> KL:
        del under_normal, noise
        found = encode(self.pseudo_inputs.clamp(0.0, 1.0)[..., None, None])
        means, deviations = found.mean.flatten(1), found.std.flatten(1)
        return lambda q, _, z: log_normal(z, q) - log_mixture(z, means, deviations)


class Energy(LatentPrior):
    """SNIS: of K samples of the standard normal one is drawn by the softmax of its energy, a perceptron's output.

    With z one of the K, log p(z) >= U(z) + log N(z) + log K - logsumexp of U over all K, in the mean over the others.
    """

    has_files = False

    def __init__(self, latents: int, *, hidden: int, proposals: int) -> None:
        super().__init__()
        layers = (nn.Linear(latents, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.energy = nn.Sequential(*layers)
        self.register_buffer("num_proposals", torch.tensor(proposals))

    def kl(self, under_normal: KL, noise: Noise, encode: Encode) -> KL:
        """Share what the energy adds equally by the dimensions. The other K - 1 samples are the same for all z."""
        del encode

        def nats(q: Gaussian, p: Gaussian, z: Tensor) -> Tensor:
            others = noise(z.new_empty(int(self.get_buffer("num_proposals")) - 1, z.shape[1]))
            gain = log_gain(self.energy(z.movedim(1, -1))[..., 0], self.energy(others)[:, 0])
            return under_normal(q, p, z) - gain[:, None] / z.shape[1]

        return nats


def log_gain(own: Tensor, others: Tensor) -> Tensor:
    """Return U + log K - logsumexp(U, U_1 ... U_(K-1)) in nats for each energy U of `own`. others: (K - 1,)."""
    of_all = torch.logaddexp(own, torch.logsumexp(others, 0))
    return own + math.log(len(others) + 1) - of_all


def log_normal(z: Tensor, law: Gaussian) -> Tensor:
    """Return the log-density in nats, elementwise."""
    return -0.5 * (((z - law.mean) / law.std).square() + LOG_TWO_PI) - law.std.log()


def log_mixture(z: Tensor, means: Tensor, deviations: Tensor) -> Tensor:
    """Return the log-density of (B, D, h, w) under K equally likely Gaussians. means, deviations: (K, D)."""
    components = Gaussian(means[:, None, :, None, None], deviations[:, None, :, None, None])
    return torch.logsumexp(log_normal(z, components), 0) - math.log(len(means))


def latent_prior(settings: Mapping[str, Any], latents: int, pixels: int) -> LatentPrior:
    """Build a prior as conf/prior describes it. pixels: of a field."""
    match dict(settings):
        case {"kind": "standard_normal"}:
            return StandardNormal()
        case {"kind": "mixture", "components": int(components)}:
            return Mixture(latents, components=components)
        case {"kind": "vamp", "pseudo_inputs": int(pseudo_inputs)}:
            return Vamp(latents, pseudo_inputs=pseudo_inputs, pixels=pixels)
        case {"kind": "energy", "hidden": int(hidden), "proposals": int(proposals)} if proposals > 1:
            return Energy(latents, hidden=hidden, proposals=proposals)
    raise CodingError(f"prior {dict(settings)}: give standard_normal, mixture, vamp or energy, as conf/prior has them")


def settings_in(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings of `latent_prior` for named weights, those of a prior after `prior.`."""
    if "prior.means" in state:
        return {"kind": "mixture", "components": len(state["prior.means"])}
    if "prior.pseudo_inputs" in state:
        return {"kind": "vamp", "pseudo_inputs": len(state["prior.pseudo_inputs"])}
    if "prior.num_proposals" in state:
        hidden = len(state["prior.energy.0.bias"])
        return {"kind": "energy", "hidden": hidden, "proposals": int(state["prior.num_proposals"])}
    return {"kind": "standard_normal"}
