"""What a codec of this room derives from its weights once, and stores with them: all that receivers compute with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from lightning_modules.exact import part_of
from lightning_modules.rec.blocks import KL_UNIT
from lightning_modules.rec.exact_pieces import ExactPieces, export_pieces, pieces_from_state, pieces_state
from lightning_modules.rec.hierarchy import Hierarchy


class Derived(NamedTuple):
    """expected_kl: of each level (C,) int64, in 1 / `KL_UNIT` nat at a position. constants: integers by name."""

    pieces: ExactPieces
    expected_kl: tuple[Tensor, ...]
    constants: dict[str, Tensor]

    def state(self) -> dict[str, Tensor]:
        parts = {f"pieces.{name}": value for name, value in pieces_state(self.pieces).items()}
        parts |= {f"expected_kl.{level}": value for level, value in enumerate(self.expected_kl)}
        parts |= {f"constants.{name}": value for name, value in self.constants.items()}
        return {f"exact.{name}": value for name, value in parts.items()}

    @classmethod
    def from_state(cls, networks: Hierarchy, names: Sequence[str], state: Mapping[str, Tensor]) -> Derived:
        """The inverse of `state`; errors as `ExactNetwork.from_state`."""
        exact = part_of(state, "exact.")
        expected = tuple(exact[f"expected_kl.{level}"] for level in range(len(networks.channels)))
        pieces = pieces_from_state(networks, names, part_of(exact, "pieces."))
        return cls(pieces, expected, part_of(exact, "constants."))


def derive(
    networks: Hierarchy, names: Sequence[str], expected_kl: Sequence[Tensor], constants: Mapping[str, Tensor]
) -> Derived:
    """names: of the pieces that get integer twins. expected_kl: nats."""
    units = tuple((values.detach().cpu().double() * KL_UNIT).round().clamp_min(1).long() for values in expected_kl)
    return Derived(export_pieces(networks, names), units, {name: value.clone() for name, value in constants.items()})
