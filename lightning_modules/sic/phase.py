"""The phases of SIC's training: what a step computes from a picture to a loss, and how each phase is validated.

A phase is made of numbers and a perceptual distance, and called with the networks; it holds no weights. Its random
numbers are PyTorch's current ones, which a module seeds for each step. Validation draws its own, always the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lightning_modules.records import ImageSize
from lightning_modules.sic.level_schedule import LevelTable, descending
from lightning_modules.sic.losses import (
    Terms,
    consistency,
    evenness,
    progressive_loss,
    warm_up_loss,
    weighted_sum,
)
from lightning_modules.sic.networks import SicNetworks
from lightning_modules.sic.synonym_noise import uniform_detail
from lightning_modules.sic.training_pass import (
    Coding,
    Distance,
    code,
    code_rounded,
    compare,
    group_bpp,
    reconstruct,
    synonyms,
)


class StepLoss(NamedTuple):
    """The loss of a training step, a scalar. terms: what it is made of, scalars by name, for a log."""

    loss: Tensor
    terms: dict[str, Tensor]


class Validated(NamedTuple):
    """The validation of one picture, with rounded latents and so with the rates of files.

    x_hat, bpp: of everything coded.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    x_hat: Tensor
    bpp: Tensor


class Phase(Protocol):
    """A phase, as a module trains with it."""

    @property
    def table(self) -> LevelTable:
        """Return the levels' weights."""

    def __call__(self, networks: SicNetworks, x: Tensor, step: int) -> StepLoss:
        """Compute a step's loss for x (B, 3, H, W) in [0, 1], sides multiples of the stride. step: counted from 0."""

    def validate(self, networks: SicNetworks, x: Tensor) -> Validated:
        """Validate a picture x (1, 3, H, W) of any size."""


@dataclass(frozen=True)
class WarmUp:
    """The warm-up, A + spread: everything is coded, and groups share the rate."""

    table: LevelTable
    distance: Distance

    def __call__(self, networks: SicNetworks, x: Tensor, step: int) -> StepLoss:
        del step  # every step is alike
        coding = code(networks, x, noise_of_z(networks, x))
        rates = noisy_rates(networks, coding)
        x_hat = reconstruct(networks, coding.y_hat, size_of(x))
        full = compare(x, x_hat, coding.z_bpp + rates.sum(), self.distance)
        loss = warm_up_loss(self.table, full, rates)
        return StepLoss(loss, {**named(full, "full"), "bpp_z": coding.z_bpp, "bpp_least": rates.min()})

    def validate(self, networks: SicNetworks, x: Tensor) -> Validated:
        """Validate with A as the loss."""
        coding = code_rounded(networks, x)
        rates = group_bpp(networks, coding, coding.y_hat)
        x_hat = reconstruct(networks, coding.y_hat, size_of(x))
        full = compare(x, x_hat, coding.z_bpp + rates.sum(), self.distance)
        terms = {**named(full, "full"), **{f"bpp_of_{k}": rate for k, rate in enumerate(rates, start=1)}}
        return Validated(weighted_sum(self.table.top, full), terms, x_hat, full.bpp)


@dataclass(frozen=True)
class Evenness:
    """The term that keeps groups from going empty in the first `epochs` of the main phase: see `losses.evenness`.

    steps_per_epoch: epochs are counted by steps, so that an interruption moves none.
    """

    epochs: int
    steps_per_epoch: int
    deviation: float
    reward: float


class Decoded(NamedTuple):
    """The reconstructions of a batch at a level, before they are compared.

    rates: (L,) bpp of the groups under noise. details: (M B, c, h, w). x_hat: ((1 + M) B, 3, H, W), first that of
    everything coded, then M with drawn detail.
    """

    level: int
    coding: Coding
    rates: Tensor
    details: Tensor
    x_hat: Tensor

    @property
    def full(self) -> Tensor:
        """Return the pictures with everything coded, (B, 3, H, W)."""
        return self.x_hat[: len(self.coding.y)]

    @property
    def sampled(self) -> Tensor:
        """Return the pictures with the channels above the level drawn, (M B, 3, H, W)."""
        return self.x_hat[len(self.coding.y) :]


@dataclass(frozen=True)
class TripleTradeOff:
    """The main phase, alpha A + (1 - alpha) S(l) + shared + detail, level l by the step; at first with `evenness`.

    samples: M. reach: of drawn detail. absent: see `losses.consistency`.
    """

    table: LevelTable
    distance: Distance
    alpha: float
    samples: int
    reach: float
    absent: int
    evenness: Evenness

    def __call__(self, networks: SicNetworks, x: Tensor, step: int) -> StepLoss:
        decoded = self.decode(networks, x, step)
        outcome = self.weigh(networks, decoded, *self.compare(x, decoded))
        if step >= self.evenness.epochs * self.evenness.steps_per_epoch:
            return outcome
        rates = group_bpp(networks, decoded.coding, decoded.coding.y_hat)
        extra = evenness(rates, decoded.level, self.evenness.deviation, self.evenness.reward)
        return StepLoss(outcome.loss + extra, {**outcome.terms, "evenness": extra})

    def decode(self, networks: SicNetworks, x: Tensor, step: int) -> Decoded:
        """Pass once through the networks, at the level that the step is due."""
        level = descending(self.table.levels)(step)
        coding = code(networks, x, noise_of_z(networks, x))
        rates = noisy_rates(networks, coding)
        means = coding.hyper_means[:, networks.group_width * level :]
        details = uniform_detail(means, torch.rand_like(means.expand(self.samples, *means.shape)), self.reach)
        return Decoded(level, coding, rates, details, reconstruct(networks, synonyms(coding, details), size_of(x)))

    def compare(self, x: Tensor, decoded: Decoded) -> tuple[Terms, Terms]:
        """Compute the terms of everything coded, and those of what detail was drawn for."""
        z_bpp, rates = decoded.coding.z_bpp, decoded.rates
        full = compare(x, decoded.full, z_bpp + rates.sum(), self.distance)
        return full, compare(x, decoded.sampled, z_bpp + rates[: decoded.level].sum(), self.distance)

    def weigh(self, networks: SicNetworks, decoded: Decoded, full: Terms, sampled: Terms) -> StepLoss:
        """Compute the loss of these terms, and what re-encoding the pictures adds."""
        again = consistency(decoded.coding.y_hat, decoded.details, networks.y_of(decoded.x_hat), self.absent)
        loss = progressive_loss(self.table, decoded.level, full, sampled, again, self.alpha)
        terms = {**named(full, "full"), **named(sampled, "sampled"), "shared": again.shared, "detail": again.detail}
        return StepLoss(loss, terms)

    def validate(self, networks: SicNetworks, x: Tensor) -> Validated:
        """Validate with the loss alpha A + (1 - alpha) S(l), mean over all levels, one draw of detail at each."""
        coding = code_rounded(networks, x)
        rates = group_bpp(networks, coding, coding.y_hat)
        generator = torch.Generator(x.device).manual_seed(0)
        full_hat = reconstruct(networks, coding.y_hat, size_of(x))
        full = compare(x, full_hat, coding.z_bpp + rates.sum(), self.distance)
        losses, terms = [], named(full, "full")
        for level in range(1, self.table.levels + 1):
            means = coding.hyper_means[:, networks.group_width * level :]
            draws = torch.rand(1, *means.shape, generator=generator, device=x.device)
            latents = synonyms(coding, uniform_detail(means, draws, self.reach))[1:]
            x_hat = reconstruct(networks, latents, size_of(x))
            sampled = compare(x, x_hat, coding.z_bpp + rates[:level].sum(), self.distance)
            losses.append(weighted_sum(self.table(level), sampled))
            terms |= {f"{name}_{level}": value for name, value in sampled._asdict().items()}
        loss = self.alpha * weighted_sum(self.table.top, full) + (1 - self.alpha) * torch.stack(losses).mean()
        return Validated(loss, terms, full_hat, full.bpp)


# ---- parts of both


def size_of(x: Tensor) -> ImageSize:
    return x.shape[-2], x.shape[-1]


def noise_of_z(networks: SicNetworks, x: Tensor) -> Tensor:
    """Draw noise from [-1/2, 1/2) for each element of z."""
    height, width = (length // networks.stride for length in size_of(x))
    return torch.rand(len(x), networks.entropy_bottleneck.channels, height, width, device=x.device) - 0.5


def noisy_rates(networks: SicNetworks, coding: Coding) -> Tensor:
    """Compute the bpp of the groups of y under noise, (L,)."""
    return group_bpp(networks, coding, coding.y + torch.rand_like(coding.y) - 0.5)


def named(terms: Terms, of: str) -> dict[str, Tensor]:
    return {f"{name}_{of}": value for name, value in terms._asdict().items()}
