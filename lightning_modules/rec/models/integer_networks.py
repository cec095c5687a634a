"""Integer networks for a hierarchy's receiver, between values that are multiples of powers of two.

    value, float64 --round--> 16-bit integers --integer network--> integers --times a power of two--> value, float64

What lies between two of them (sums, concatenations, samples z) is single float64 operations, elementwise, so that all
that a receiver computes is equal to the last bit on every machine. See docs/exact.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from lightning_modules.exact.export import export, float_weights
from lightning_modules.exact.network import ExactNetwork, part_of
from lightning_modules.rec.models.hierarchy import Hierarchy, Network, Prior
from lightning_modules.rec.samplers.blocks import EXPECTED_KL_UNIT

EXAMPLE_SIDE = 256
"""Side in pixels of the pictures that units are chosen with: samples of the model itself."""
EXAMPLE_PICTURES = 2

TABLE, FUNCTIONS = ".table", "functions."

ORIGINAL = "parametrizations.weight.original"
"""Where torch keeps what a parametrised weight is made of."""


class IntegerNetwork:
    """An integer network that takes and gives float64 values."""

    def __init__(self, network: ExactNetwork) -> None:
        self.network = network
        self._input_unit = 2.0 ** int(network.fractions[0])
        self._output_units = (2.0 ** -network.fractions[-1].double()).reshape(-1, 1, 1)

    def __call__(self, value: Tensor) -> Tensor:
        integers = (value * self._input_unit).add_(0.5).floor_()
        return self.network(integers) * self._output_units.to(value.device)


IntegerNetworks = dict[str, IntegerNetwork]


def export_networks(networks: Hierarchy, names: Iterable[str]) -> IntegerNetworks:
    """Export networks by name. Units suit what these see while the model draws pictures from its priors."""
    seen = _inputs(networks)
    return {
        name: IntegerNetwork(export(networks.layers_of(name), seen[name], networks.output_fractions(name)))
        for name in names
    }


def networks_state(networks: Mapping[str, IntegerNetwork]) -> dict[str, Tensor]:
    """Return every integer by network and name. Tables of functions, of which many are equal, have numbers there, and
    stand once under `functions`.
    """
    state: dict[str, Tensor] = {}
    tables: list[Tensor] = []
    for name, network in networks.items():
        for key, value in network.network.state().items():
            if key.endswith(TABLE):
                known = next((k for k, table in enumerate(tables) if torch.equal(table, value)), len(tables))
                tables += [value] if known == len(tables) else []
                state[f"{name}.{key}"] = torch.tensor(known, dtype=torch.int32)
            else:
                state[f"{name}.{key}"] = value
    return state | {f"{FUNCTIONS}{k}": table for k, table in enumerate(tables)}


def networks_from_state(networks: Hierarchy, names: Iterable[str], state: Mapping[str, Tensor]) -> IntegerNetworks:
    """Return networks from what `networks_state` gave; errors as `ExactNetwork.from_state`."""
    found: IntegerNetworks = {}
    for name in names:
        own = part_of(state, f"{name}.")
        own |= {key: state[f"{FUNCTIONS}{int(value)}"] for key, value in own.items() if key.endswith(TABLE)}
        found[name] = IntegerNetwork(ExactNetwork.from_state(networks.layers_of(name), own))
    return found


def implied_layers(networks: Hierarchy, integer_networks: Mapping[str, IntegerNetwork]) -> dict[str, Tensor]:
    """Return the parameters that integer networks stand for, in float32, by their names in `networks`."""
    names = {module: name for name, module in networks.named_modules()}
    implied: dict[str, Tensor] = {}
    for name, integer_network in integer_networks.items():
        found = float_weights(integer_network.network)
        for place, layer in enumerate(networks.layers_of(name)):
            if f"{place}.weight" in found:
                implied |= _parameters(layer, names[layer], found[f"{place}.weight"], found[f"{place}.bias"])
    return implied


def _parameters(layer: Any, name: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Return the parameters of a layer with this weight and bias, by name."""
    of_bias = {} if layer.bias is None else {f"{name}.bias": bias}
    if not parametrize.is_parametrized(layer, "weight"):
        return {f"{name}.weight": weight} | of_bias
    log_gain, direction = layer.parametrizations.weight[0].right_inverse(weight)
    return {f"{name}.{ORIGINAL}0": log_gain, f"{name}.{ORIGINAL}1": direction} | of_bias


@torch.no_grad()
def _inputs(networks: Hierarchy) -> dict[str, Tensor]:
    """Return what each network gets while z is drawn from the priors, by name."""
    seen: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    device = next(networks.parameters()).device

    def watched(name: str, network: Network) -> Network:
        def run(value: Tensor) -> Tensor:
            seen[name] = value
            return network(value)

        return run

    def from_prior(level: int, prior: Prior) -> Tensor:
        del level
        noise = torch.randn(prior.mean.shape, generator=generator).to(prior.mean)
        return prior.mean + noise * networks.scale_map.trained(prior.spread)

    watching = {name: watched(name, network) for name, network in networks.trained.items()}
    like = torch.zeros(EXAMPLE_PICTURES, 1, device=device)
    side = -(-EXAMPLE_SIDE // networks.stride) * networks.stride
    networks.rehearse(watching, like, (side, side), from_prior)
    return seen


class ReceiverState(NamedTuple):
    """All that a receiver computes with, in integers.

    expected_kl: of each level (C,), in 1 / `EXPECTED_KL_UNIT` nat at a position. constants: by name.
    """

    integer_networks: IntegerNetworks
    expected_kl: tuple[Tensor, ...]
    constants: dict[str, Tensor]

    def state(self) -> dict[str, Tensor]:
        """Return all of it, by the names that models are stored with."""
        parts = {f"pieces.{name}": value for name, value in networks_state(self.integer_networks).items()}
        parts |= {f"expected_kl.{level}": value for level, value in enumerate(self.expected_kl)}
        parts |= {f"constants.{name}": value for name, value in self.constants.items()}
        return {f"exact.{name}": value for name, value in parts.items()}

    @classmethod
    def from_state(cls, networks: Hierarchy, names: Sequence[str], state: Mapping[str, Tensor]) -> ReceiverState:
        """Return what `state` was made of; errors as `ExactNetwork.from_state`."""
        exact = part_of(state, "exact.")
        expected = tuple(exact[f"expected_kl.{level}"] for level in range(len(networks.channels)))
        found = networks_from_state(networks, names, part_of(exact, "pieces."))
        return cls(found, expected, part_of(exact, "constants."))

    @classmethod
    def derived(
        cls,
        networks: Hierarchy,
        names: Sequence[str],
        expected_kl: Sequence[Tensor],
        constants: Mapping[str, Tensor],
    ) -> ReceiverState:
        """Export networks and round averages. names: of the networks. expected_kl: nats."""
        units = (values.detach().cpu().double() * EXPECTED_KL_UNIT for values in expected_kl)
        return cls(
            export_networks(networks, names),
            tuple(values.round().clamp_min(1).long() for values in units),
            {name: value.clone() for name, value in constants.items()},
        )
