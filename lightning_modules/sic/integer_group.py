"""One group's coding parameters in integers: the exact counterpart of `FloatGroup`.

    y_hat of earlier groups --5x5, a sum a group--+
    y_hat of 12 earlier positions, own group -----+--scaled--> context, 16 bits --+
    hyper, 16 bits, of this group ------------------------------------------------+--network--> table, base

Sums are of 8-bit integers of y_hat and 8-bit weights. A table stands for a sigma and for the fraction of a mean, and
base is the integer below that mean (`lightning_modules/coding/shifted_tables.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lightning_modules.exact.export import export, float_layer, float_weights, fraction_for, integers
from lightning_modules.exact.network import LIMIT, Affine, ExactNetwork, evaluate, part_of
from lightning_modules.exact.products import ByteProduct, Correlation, Dense, Float64Product, IntegerWeight, Product
from lightning_modules.sic.group_context import CENTRE, EARLIER_TAPS, EntropyParameters, GroupContext, group_channels

SCALE_BITS = 12
"""Fractional bits of sigma: 2^-12 is 1/450 of the smallest table's."""

MEAN_BITS = 5
"""Fractional bits of a mean."""

FRACTIONS = 1 << MEAN_BITS
"""Tables for each sigma: rounding a mean to 1/16 would cost 0.05 % of the bits where most sigmas are below 1."""

LARGEST = 127
"""Context takes integers of y_hat beyond -128 ... 127 for these."""

SURROUNDINGS = Correlation((1, 1), (CENTRE, CENTRE), (1, 1), 1)


class IntegerGroup:
    """`GroupLayers` of group k on integers in float64; its results are numbers of tables and bases.

    context: from (k + 1) g 25 values, channel by channel, to 2 g. network: from hyper and context, 4 g. thresholds:
    sigmas, ascending, in 2^-12, from each of which on the next table is used. product: how earlier groups are added.
    """

    def __init__(
        self, context: Affine, network: ExactNetwork, thresholds: Tensor, groups: int, product: Product | None = None
    ) -> None:
        self.context, self.network, self.groups = context, network, groups
        self.width = len(context.bias) // 2
        self.product = product or ByteProduct()
        rows = context.weight.unflatten(1, (-1, 2 * CENTRE + 1, 2 * CENTRE + 1))
        *earlier, own = rows.split(self.width, dim=1)
        self.group = len(earlier)
        self._earlier = [IntegerWeight(weight.contiguous(), SURROUNDINGS) for weight in earlier]
        taps = torch.stack([own[:, :, row, column] for row, column in EARLIER_TAPS], dim=2)
        self._taps = taps.flatten(1).double().T.contiguous()
        self._thresholds = thresholds.double()

    def by(self, product: Product) -> IntegerGroup:
        """Return the same layers with earlier groups added in another way."""
        return IntegerGroup(self.context, self.network, self._thresholds, self.groups, product)

    def known(self, hyper: Tensor, decoded: Tensor) -> Tensor:
        """Join hyper features of the group and the sums that earlier groups contribute to its context."""
        batch, _, height, width = decoded.shape
        sums = torch.zeros(batch, 2 * self.width, height, width, dtype=torch.float64)
        bounded = _bounded(decoded)
        for number, weight in enumerate(self._earlier):
            sums += self.product(bounded[:, number * self.width : (number + 1) * self.width], weight)
        return torch.cat([group_channels(hyper, self.group, self.groups), sums], dim=1)

    def parameters(self, known: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
        """Look up table and base of each symbol, (B, g, n), integers in float64."""
        hyper, sums = known.transpose(1, 2).split(2 * self.width, dim=2)
        context = self.context.finished(_bounded(neighbours).transpose(1, 2) @ self._taps + sums)
        found = evaluate(self.network.steps, torch.cat([hyper, context], dim=2), Float64Product())
        scales, means = found.transpose(1, 2).contiguous().chunk(2, dim=1)
        base = means.div(FRACTIONS).floor_()
        rank = torch.bucketize(scales.contiguous(), self._thresholds, right=True)
        return rank * FRACTIONS + (means - FRACTIONS * base), base

    def state(self) -> dict[str, Tensor]:
        parts = {"context": self.context.state(), "network": self.network.state()}
        return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], thresholds: Tensor, groups: int) -> IntegerGroup:
        """Invert `state`; raises as `ExactNetwork.unproved` does."""
        context = Affine(Dense(), LIMIT, **part_of(state, "context."))
        network = ExactNetwork.unproved(_layout(len(context.bias) // 2), part_of(state, "network."))
        return cls(context, network, thresholds, groups)

    def float_weights(self) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Return the network's weights by name, (D, C, 1, 1), and the context's weight and bias, as integers say."""
        nothing = torch.tensor(0)
        weight, bias = float_layer(self.context, nothing, self.network.fractions[0])
        layers = float_weights(self.network)
        layers = {name: value[:, :, None, None] if value.ndim == 2 else value for name, value in layers.items()}
        return layers, (weight.unflatten(1, (-1, 2 * CENTRE + 1, 2 * CENTRE + 1)), bias)


def integer_group(
    context: GroupContext, parameters: EntropyParameters, group: int, features: Tensor, thresholds: Tensor
) -> IntegerGroup:
    """Export a group's trained layers to integers. features: (N, 4 g) examples of what its network sees."""
    fraction = fraction_for(features)
    surroundings = context.layer.of_group(group)
    affine = _linear(surroundings.weight.flatten(1), surroundings.bias)
    network = nn.Sequential(*(_pointwise(layer) for layer in parameters.of_group(group)))
    width = len(surroundings.weight) // 2
    outputs = torch.tensor([SCALE_BITS] * width + [MEAN_BITS] * width)
    return IntegerGroup(
        Affine(Dense(), LIMIT, **integers(affine, 0, fraction)),
        export(network, features, outputs),
        thresholds,
        context.groups,
    )


def _pointwise(layer: nn.Module) -> nn.Module:
    """Return a 1x1 convolution as a linear layer over channels, any other layer as it is."""
    return _linear(layer.weight[:, :, 0, 0], layer.bias) if isinstance(layer, nn.Conv2d) else layer


@torch.no_grad()
def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    assert bias is not None
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], dtype=weight.dtype)
    assert isinstance(layer, nn.Linear)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer


def _layout(width: int) -> nn.Sequential:
    """Lay out a group's network of g = `width`; its weights do not matter."""
    return nn.Sequential(*(_pointwise(layer) for layer in EntropyParameters(1, width).of_group(0)))


def _bounded(values: Tensor) -> Tensor:
    return values.clamp(-LARGEST - 1, LARGEST)
