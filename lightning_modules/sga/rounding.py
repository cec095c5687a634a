"""The relaxed rounding rules by name, of two classes (floor, ceil) and of three (nearest integer and neighbours)."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from lightning_modules.sga.noise import Draw
from lightning_modules.sga.three_classes import cosine3, linear3, ssl3
from lightning_modules.sga.two_classes import atanh, cosine, linear, ssl

__all__ = ["Rule", "atanh", "cosine", "cosine3", "linear", "linear3", "ssl", "ssl3"]


class Rule(Protocol):
    """A rule gives the classes of a value probabilities by how near they are; for values of any shape."""

    def probabilities(self, value: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Return classes and their probabilities before Gumbel noise, each with a last axis, one entry a class."""

    def mean(self, value: Tensor, temperature: float) -> Tensor:
        """Return the classes' mean under these probabilities; same shape as `value`."""

    def sample(self, value: Tensor, temperature: float, draw: Draw) -> Tensor:
        """Draw a Gumbel-softmax sample at the same temperature; same shape as `value`."""
