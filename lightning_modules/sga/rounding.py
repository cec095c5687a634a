"""The relaxed rounding rules by name, of two classes (floor, ceil) and of three (nearest integer and neighbours)."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from lightning_modules.sga.noise import Draw
from lightning_modules.sga.three_classes import cosine3, linear3, ssl3
from lightning_modules.sga.two_classes import atanh, cosine, linear, ssl

__all__ = ["Rule", "atanh", "cosine", "cosine3", "linear", "linear3", "ssl", "ssl3"]


class Rule(Protocol):
    """How near a value is to each of its classes, and what that makes of it; for values of any shape."""

    def probabilities(self, value: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Classes and their probabilities before Gumbel noise, each with a last axis, one entry a class."""

    def mean(self, value: Tensor, temperature: float) -> Tensor:
        """The classes' mean under these probabilities; same shape as `value`."""

    def sample(self, value: Tensor, temperature: float, draw: Draw) -> Tensor:
        """A Gumbel-softmax sample at the same temperature; same shape as `value`."""
