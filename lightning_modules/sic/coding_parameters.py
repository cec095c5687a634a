"""From z and earlier integers of y to what y is coded with, in integers all the way: the same on every machine.

z symbols --+ medians--> z_hat --hs, exact--> hyper, 16 bits --IntegerGroup, group by group--> tables, bases
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.coding.shifted_tables import shifted_tables
from lightning_modules.coding.tables import TAIL_MASS, CodingTables, likely_symbols, scale_thresholds, tables_from_pmf
from lightning_modules.densities import factorized_pmfs, medians
from lightning_modules.derived_value import CodingState
from lightning_modules.errors import CodingError
from lightning_modules.exact.export import EXAMPLES, export, float_weights
from lightning_modules.exact.network import ExactNetwork, part_of
from lightning_modules.exact.products import Float64Product
from lightning_modules.sic.group_context import EntropyParameters, GroupContext, group_channels
from lightning_modules.sic.group_steps import FloatGroup, Front, fill_group, parameters_at_once
from lightning_modules.sic.hyper_networks import STRIDE
from lightning_modules.sic.integer_group import FRACTIONS, LARGEST, SCALE_BITS, IntegerGroup, integer_group
from lightning_modules.sic.networks import SicNetworks
from lightning_modules.tiling import Footprint, footprint, tiled

Part = TypeVar("Part", bound=nn.Module)

SIGMAS = (*np.geomspace(0.11, 4.0, 48), *np.geomspace(4.0, 64.0, 17)[1:])
"""Standard deviations of the tables of y, whose magnitude its normalisation bounds: closer where symbols are cheap."""

PICTURES = 4
"""Examples of z, half of them flat, that show the ranges of activations."""

SIDE = 4
"""Of these examples."""

POSITIONS = 8
"""Side of the corner of y that is drawn for each of them."""

KNOWN_SIZE = (4, 8)
"""Of y in the known answer."""


class CodingParameters:
    """The network hs and the groups' layers in integers.

    medians: (N,) of z, in the unit of hs's input. field: what hs sees of z.
    answer: CRC-32 of the parameters for a known z and y where the integers were made; None: computed here.
    """

    def __init__(
        self,
        hs: ExactNetwork,
        field: Footprint,
        medians: Tensor,
        groups: Sequence[IntegerGroup],
        answer: int | None = None,
    ) -> None:
        self.hs, self.field, self.medians, self.groups = hs, field, medians, tuple(groups)
        self.width = self.groups[0].width
        self.answer = self._answer() if answer is None else answer

    def hyper(self, z: Tensor) -> Tensor:
        """Compute (B, 2C, 4 h, 4 w) integers in float64, in the units of their groups, from z (B, N, h, w)."""
        z_hat = z.double() * 2.0 ** int(self.hs.fractions[0]) + self.medians.double().reshape(1, -1, 1, 1)
        return tiled(self.hs, self.field, z_hat)

    def hyper_means(self, hyper: Tensor) -> Tensor:
        """Return the second half of `hyper`, (B, C, h, w), as the numbers that it stands for: float64, exact."""
        means = hyper[:, hyper.shape[1] // 2 :]
        return means * 2.0 ** -self.hs.fractions[-1][-means.shape[1] :].double().reshape(-1, 1, 1)

    def state(self) -> dict[str, Tensor]:
        parts = {"hs": self.hs.state()} | {f"groups.{k}": group.state() for k, group in enumerate(self.groups)}
        state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
        answer = torch.tensor(self.answer, dtype=torch.int64)
        return state | {"medians": self.medians, "thresholds": _thresholds(), "answer": answer}

    @classmethod
    def from_state(cls, hs: nn.Sequential, state: Mapping[str, Tensor]) -> CodingParameters:
        """Invert `state`. Only the layout of hs counts. Raises as `ExactNetwork.from_state` does."""
        count = len({name.split(".")[1] for name in state if name.startswith("groups.")})
        groups = [
            IntegerGroup.from_state(part_of(state, f"groups.{k}."), state["thresholds"], count) for k in range(count)
        ]
        network = ExactNetwork.from_state(hs, part_of(state, "hs."))
        return cls(network, footprint(hs), state["medians"], groups, int(state["answer"]))._proved()

    def float_weights(self) -> dict[str, Tensor]:
        """Return the weights that the integers stand for, by the codec's names."""
        found = {f"hs.{name}": value for name, value in float_weights(self.hs).items()}
        parts = [group.float_weights() for group in self.groups]
        for name in parts[0][0]:
            found[f"entropy_parameters.layer.{name}"] = torch.cat([layers[name] for layers, _ in parts])
        rows = [weight for _, (weight, _) in parts]
        found["context_model.layer.weight"] = torch.cat([_widened(row, len(rows) * self.width) for row in rows])
        found["context_model.layer.bias"] = torch.cat([bias for _, (_, bias) in parts])
        return found

    def _proved(self) -> CodingParameters:
        """Return itself, or the same with sums of another kind: whichever gives the known answer."""
        slower = [group.by(Float64Product()) for group in self.groups]
        for candidate in (self, CodingParameters(self.hs, self.field, self.medians, slower, self.answer)):
            if candidate._answer() == self.answer:
                return candidate
        raise CodingError(
            "this machine computes other integers than the model's known answer, so it would decode to garbage; "
            "report it"
        )

    def _answer(self) -> int:
        """Compute the CRC of all positions at once, and of the same step by step, so that a difference shows."""
        z = _scattered(1, len(self.medians), KNOWN_SIZE[0] // STRIDE, KNOWN_SIZE[1] // STRIDE)
        y = _scattered(1, len(self.groups) * self.width, *KNOWN_SIZE)
        hyper = self.hyper(z)
        crc = 0
        for k, group in enumerate(self.groups):
            earlier, own = y[:, : k * self.width], y[:, k * self.width : (k + 1) * self.width]
            at_once = torch.stack(parameters_at_once(group, hyper, earlier, own))
            stepwise = torch.empty_like(at_once)

            def look_up(front: Front, *found: Tensor, own: Tensor = own, into: Tensor = stepwise) -> Tensor:
                into[..., front.rows, front.columns] = torch.stack(found)
                return own[..., front.rows, front.columns]

            fill_group(group, hyper, earlier, look_up)
            for parameters in (at_once, stepwise):
                crc ^= zlib.crc32(parameters.to(torch.int64).numpy().tobytes(), crc)
        return crc


def derive(networks: SicNetworks) -> CodingState[CodingParameters]:
    """Derive tables and integers from weights whose medians are up to date."""
    z_tables = tables_from_pmf(*factorized_pmfs(networks.entropy_bottleneck, TAIL_MASS))
    return CodingState(z_tables, shifted_tables(SIGMAS, FRACTIONS), integer_parameters(networks, z_tables))


@torch.no_grad()
def integer_parameters(networks: SicNetworks, z_tables: CodingTables) -> CodingParameters:
    """Export trained weights, whose medians are up to date, to integers.

    The ranges of activations come from z as its tables say that it will be, and from y drawn under it.
    """
    hs = _double(networks.hs)
    context, parameters = _double(networks.context_model), _double(networks.entropy_parameters)
    offsets = medians(networks.entropy_bottleneck).cpu().double()
    middle = slice((EXAMPLES - PICTURES) // 2, (EXAMPLES + PICTURES) // 2)
    z_hat = likely_symbols(z_tables)[middle, :, :SIDE, :SIDE] + offsets
    features = example_features(context, parameters, hs(z_hat)[:, :, :POSITIONS, :POSITIONS].contiguous())
    groups = [integer_group(context, parameters, k, features[k], _thresholds()) for k in range(networks.groups)]
    fractions = torch.stack([group.network.fractions[0] for group in groups]).repeat_interleave(networks.group_width)
    exact = export(hs, z_hat, fractions.repeat(2))
    fixed = (offsets.flatten() * 2.0 ** int(exact.fractions[0])).round().to(torch.int32)
    return CodingParameters(exact, footprint(hs), fixed, groups)


def example_features(context: GroupContext, parameters: EntropyParameters, hyper: Tensor) -> list[Tensor]:
    """Draw y as the networks expect it given hyper (B, 2C, h, w); return what each group sees, (B h w, 4 g)."""
    generator = torch.Generator().manual_seed(0)

    def draw(front: Front, scales: Tensor, means: Tensor) -> Tensor:
        del front
        noise = torch.randn(means.shape, generator=generator, dtype=means.dtype)
        return (means + scales.abs() * noise).round().clamp(-LARGEST, LARGEST)

    y_hat, features = hyper[:, :0], []
    for k in range(context.groups):
        group = FloatGroup(context, parameters, k)
        y_hat = torch.cat([y_hat, fill_group(group, hyper, y_hat, draw)], dim=1)
        seen = torch.cat([group_channels(hyper, k, context.groups), group.context(y_hat)], dim=1)
        features.append(seen.transpose(0, 1).flatten(1).T)
    return features


def _double(part: Part) -> Part:
    """Copy a part in float64 to the CPU."""
    return copy.deepcopy(part).double().cpu()


def _thresholds() -> Tensor:
    return torch.from_numpy(np.ceil(scale_thresholds(SIGMAS) * 2.0**SCALE_BITS)).to(torch.int32)


def _scattered(*shape: int) -> Tensor:
    """Return fixed integers between -8 and 8."""
    count = torch.arange(math.prod(shape), dtype=torch.int64)
    return ((count * 40503 + 12345) % 65521 % 17 - 8).reshape(shape).double()


def _widened(weight: Tensor, channels: int) -> Tensor:
    """Widen (D, C, 5, 5) to (D, channels, 5, 5), with zeros for what is not seen."""
    return F.pad(weight, (0, 0, 0, 0, 0, channels - weight.shape[1]))
