"""Relaxed rounding to the nearest integer or one of its neighbours (Perugachi-Diaz et al. 2024, section 3.3).

A value v has the classes r - 1, r, r + 1 with r the nearest integer, ties to even. A rule gives a class at signed
distance w = v - class the logit psi(w); a sample is softmax((psi / tau + Gumbel noise) / tau), which moves v to
r + s(r + 1) - s(r - 1). Unlike with two classes an exact integer has a gradient, though a tiny one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.sga.noise import Draw, gumbel

LEAST_WEIGHT = 1e-6
"""Weights of classes are at least this, before the power."""

COSINE_LEAST_WEIGHT = 1e-7
"""What the cosine rule adds to a weight, after the power."""

Logit = Callable[[Tensor], Tensor]
"""psi: (signed distances between -3/2 and 3/2) -> logits at tau = 1."""


@dataclass(frozen=True)
class ThreeClassRule:
    """Probabilities, their mean and samples of a rounding to one of three integers, of any shape and precision."""

    logit: Logit

    def probabilities(self, value: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Return classes (..., 3), ascending, and their probabilities (..., 3), before Gumbel noise."""
        nearest = torch.round(value).detach()
        logits = torch.stack(self._logits(value - nearest), -1) / temperature
        steps = torch.tensor([-1, 0, 1], dtype=value.dtype, device=value.device)
        return nearest.unsqueeze(-1) + steps, torch.softmax(logits, -1)

    def mean(self, value: Tensor, temperature: float) -> Tensor:
        """Return the classes' mean under these probabilities: deterministic annealing."""
        nearest = torch.round(value).detach()
        below, here, above = (logit / temperature for logit in self._logits(value - nearest))
        return nearest + _mean_step(below, here, above)

    def sample(self, value: Tensor, temperature: float, draw: Draw) -> Tensor:
        """Draw one softened sample for each element; the gradient is that of the sample with its noise held fixed."""
        nearest = torch.round(value).detach()
        below, here, above = (
            (logit / temperature + gumbel(draw(value))) / temperature for logit in self._logits(value - nearest)
        )
        return nearest + _mean_step(below, here, above)

    def _logits(self, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of the classes below, at and above the nearest integer, which is `distance` away."""
        return self.logit(distance + 1), self.logit(distance), self.logit(distance - 1)


def linear3(r: float, n: float) -> ThreeClassRule:
    """Make the rule of weight (1 - r |w|)^n."""
    return ThreeClassRule(functools.partial(_linear_logit, r=r, n=n))


def cosine3(r: float, n: float) -> ThreeClassRule:
    """Make the rule of weight cos(pi r w / 2)^n, zero from r |w| = 1 on."""
    return ThreeClassRule(functools.partial(_cosine_logit, r=r, n=n))


def ssl3(f: float, n: float, a: float) -> ThreeClassRule:
    """Make the rule of weight S(-a logit(q))^n, q = f |w| / 1.5."""
    return ThreeClassRule(functools.partial(_ssl_logit, f=f, n=n, a=a))


def _mean_step(below: Tensor, here: Tensor, above: Tensor) -> Tensor:
    """Compute the softmax of three logits, last entry minus first, without an axis of classes."""
    largest = torch.maximum(torch.maximum(below, here), above).detach()
    below, here, above = torch.exp(below - largest), torch.exp(here - largest), torch.exp(above - largest)
    return (above - below) / (below + here + above)


def _linear_logit(distance: Tensor, r: float, n: float) -> Tensor:
    return n * torch.log((1 - r * distance.abs()).clamp(min=LEAST_WEIGHT))


def _cosine_logit(distance: Tensor, r: float, n: float) -> Tensor:
    # cos(pi / 2) is a rounding error below zero, which a power that is no integer makes NaN; and a power below 1
    # has an infinite slope at zero, hence not zero but the least float that this scale resolves.
    weight = torch.cos((r * distance).clamp(-1, 1) * (math.pi / 2)).clamp(min=torch.finfo(distance.dtype).tiny)
    return torch.log(weight**n + COSINE_LEAST_WEIGHT)


def _ssl_logit(distance: Tensor, f: float, n: float, a: float) -> Tensor:
    q = (distance.abs() * (f / 1.5)).clamp(LEAST_WEIGHT, 1 - LEAST_WEIGHT)
    weight = torch.sigmoid(a * (torch.log1p(-q) - torch.log(q)))
    return n * torch.log(weight.clamp(min=LEAST_WEIGHT))
