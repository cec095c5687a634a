"""The refinement loop as the papers' public code runs it, for comparison: plain PyTorch, nothing left out or added.

Weights keep their gradients, which every backward pass computes and adds up; classes are stacked along a last axis
and sampled with `torch.nn.functional.gumbel_softmax`; every step ends with an evaluation of the rounded latents.
The codec's own networks and densities are used, so both sides minimise the same objective on the same grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.codec import LatentVariableCodec
from lightning_modules.quantization import Quantizer, hard_round
from lightning_modules.records import Latents

LEARNING_RATE = 5e-3
EPSILON = 1e-5

Logits = Callable[[Tensor], Tensor]
"""From distances to a class to its logits at temperature 1."""


def atanh_logits(distance: Tensor) -> Tensor:
    return -torch.atanh(distance.clamp(-1 + EPSILON, 1 - EPSILON))


def temperature(step: int) -> float:
    """Return the schedule of SGA."""
    return max(1e-8, min(0.5, 0.5 * math.exp(-1e-3 * (step - 700))))


def stacked_sample(logits: Logits, tau: float) -> Quantizer:
    """Floor and ceil on an axis of their own, weighted by a Gumbel-softmax sample."""

    def quantize(value: Tensor, offset: Tensor) -> Tensor:
        centred = value - offset
        classes = torch.stack((torch.floor(centred), torch.ceil(centred)), -1)
        distances = torch.stack((centred - classes[..., 0], classes[..., 1] - centred), -1)
        weights = F.gumbel_softmax(logits(distances) / tau, tau=tau, dim=-1)
        return (classes * weights).sum(-1) + offset

    return quantize


class Losses(NamedTuple):
    """Of one step: what is minimised, and the loss of the rounded latents before the update."""

    method: float
    true: float


class PapersLoop:
    """One image, x (1, 3, H, W), and its latents as the encoder gives them; `step` updates these."""

    def __init__(self, codec: LatentVariableCodec, x: Tensor, lmbda: float) -> None:
        self.codec, self.x, self.lmbda = codec, x, lmbda
        with torch.no_grad():
            given = codec.analyze(x)
        leaves = {name: value.clone().requires_grad_() for name, value in given.variables.items()}
        self.latents = Latents(leaves, given.image_size)
        self.optimizer = torch.optim.Adam(list(leaves.values()), lr=LEARNING_RATE)

    def loss(self, quantize: Quantizer) -> Tensor:
        synthesis = self.codec.generate(self.latents, quantize)
        rate = sum(likelihood.log().sum() for likelihood in synthesis.likelihoods.values()) / -math.log(2)
        num_pixels = self.x.shape[-2] * self.x.shape[-1]
        return self.lmbda * 255**2 * F.mse_loss(synthesis.x_hat, self.x) + rate / num_pixels

    def step(self, number: int) -> Losses:
        self.optimizer.zero_grad()
        loss = self.loss(stacked_sample(atanh_logits, temperature(number)))
        loss.backward()
        with torch.no_grad():
            true = self.loss(hard_round)
        self.optimizer.step()
        return Losses(loss.item(), true.item())
