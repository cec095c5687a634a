"""The selection of the latents that a refinement returns, by each image's own true losses alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

Variables = Mapping[str, Tensor]


class Keeper(Protocol):
    """A keeper sees every evaluation of one refinement of B images: before the first update, and up to the last."""

    def offer(self, losses: Tensor, variables: Variables) -> bool:
        """Take note of true losses (B,) and variables (B, ...) by name, to be copied; return whether to go on."""

    def kept(self) -> dict[str, Tensor]:
        """Return the selected latents, (B, ...) by name."""


Keep = Callable[[], Keeper]
"""Makes the keeper of one refinement: `Last`, `Best` or `FirstRise`."""


class Last:
    """The latents after the last step, whatever their loss."""

    def offer(self, losses: Tensor, variables: Variables) -> bool:
        del losses
        self._variables = {name: value.detach().clone() for name, value in variables.items()}
        return True

    def kept(self) -> dict[str, Tensor]:
        return self._variables


class Best:
    """The latents of least true loss, for each image by itself, so that none ends worse than it began."""

    def __init__(self) -> None:
        self._losses: Tensor | None = None
        self._variables: dict[str, Tensor] = {}

    def offer(self, losses: Tensor, variables: Variables) -> bool:
        if self._losses is None:
            self._losses = torch.full_like(losses, torch.inf)
            self._variables = {name: torch.empty_like(value) for name, value in variables.items()}
        self._adopt(losses < self._losses, losses, variables)
        return True

    def kept(self) -> dict[str, Tensor]:
        return self._variables

    def _adopt(self, chosen: Tensor, losses: Tensor, variables: Variables) -> None:
        """Take over the images whose entry of `chosen`, (B,), is true."""
        assert self._losses is not None, "offer() has set it"
        self._losses = torch.where(chosen, losses, self._losses)
        for name, value in variables.items():
            self._variables[name][chosen] = value.detach()[chosen]


class FirstRise(Best):
    """The early stop of Yang et al. 2020 for MAP and STE: as the true loss first rises, the latents of before.

    For each image by itself. One that has stopped no longer changes, though others of its batch go on.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running: Tensor | None = None

    def offer(self, losses: Tensor, variables: Variables) -> bool:
        if self._losses is None or self._running is None:
            self._running = torch.ones_like(losses, dtype=torch.bool)
            return super().offer(losses, variables)
        self._running = self._running & (losses <= self._losses)
        self._adopt(self._running, losses, variables)
        return bool(self._running.any())
