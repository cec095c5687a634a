"""The integer twins of a hierarchy's generative networks, between values that are multiples of powers of two.

    value, float64 --round--> 16-bit integers --integer network--> integers --times a power of two--> value, float64

What lies between two of them (sums, concatenations, samples z) is single float64 operations, elementwise, so that all
that a receiver computes is equal to the last bit on every machine. See docs/exact.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lightning_modules.codec import ImageSize
from lightning_modules.exact import ExactNetwork, part_of
from lightning_modules.exact_export import export
from lightning_modules.rec.hierarchy import Hierarchy, Piece, Prior

EXAMPLE_SIDE = 256
"""Pixels of the pictures that units are chosen with: samples of the model itself."""
EXAMPLE_PICTURES = 2


class ExactPiece:
    """An integer network on float64 values."""

    def __init__(self, network: ExactNetwork) -> None:
        self.network = network
        self._input_unit = 2.0 ** int(network.fractions[0])
        self._output_units = (2.0 ** -network.fractions[-1].double()).reshape(-1, 1, 1)

    def __call__(self, value: Tensor) -> Tensor:
        integers = (value * self._input_unit).add_(0.5).floor_()
        return self.network(integers) * self._output_units.to(value.device)


ExactPieces = dict[str, ExactPiece]


def export_pieces(networks: Hierarchy, names: Iterable[str]) -> ExactPieces:
    """The twins of some pieces. Units suit what these see while the model draws pictures from its priors."""
    seen = _inputs(networks)
    return {
        name: ExactPiece(export(networks.layers_of(name), seen[name], networks.output_fractions(name)))
        for name in names
    }


def pieces_state(pieces: Mapping[str, ExactPiece]) -> dict[str, Tensor]:
    """Every integer of the twins, by piece and name."""
    return {f"{name}.{key}": value for name, piece in pieces.items() for key, value in piece.network.state().items()}


def pieces_from_state(networks: Hierarchy, names: Iterable[str], state: Mapping[str, Tensor]) -> ExactPieces:
    """The inverse of `pieces_state`; errors as `ExactNetwork.from_state`."""
    return {
        name: ExactPiece(ExactNetwork.from_state(networks.layers_of(name), part_of(state, f"{name}.")))
        for name in names
    }


@torch.no_grad()
def _inputs(networks: Hierarchy) -> dict[str, Tensor]:
    """What each piece gets while z is drawn from the priors, by name."""
    seen: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    device = next(networks.parameters()).device

    def watched(name: str, piece: Piece) -> Piece:
        def run(value: Tensor) -> Tensor:
            seen[name] = value
            return piece(value)

        return run

    def from_prior(level: int, prior: Prior) -> Tensor:
        del level
        noise = torch.randn(prior.mean.shape, generator=generator).to(prior.mean)
        return prior.mean + noise * networks.scale_map.trained(prior.spread)

    pieces = {name: watched(name, piece) for name, piece in networks.trained.items()}
    like = torch.zeros(EXAMPLE_PICTURES, 1, device=device)
    networks.rehearse(pieces, like, _example_size(networks), from_prior)
    return seen


def _example_size(networks: Hierarchy) -> ImageSize:
    side = -(-EXAMPLE_SIDE // networks.stride) * networks.stride
    return side, side
