"""Integer networks: inference that gives the same integers on every machine, thread count, batch and layout.

Sender and receiver must agree on every coding parameter to the last bit, and floating-point sums depend on their
order. Here weights and activations are integers, and no partial sum can leave the range in which the arithmetic
is exact, so that the order cannot matter (Balle, Johnston, Minnen, "Integer Networks for Data Compression with
Latent-Variable Models", ICLR 2019). `exact_export` makes such a network from a trained one.

    integers --step--> integers --step--> ... --> integers        value = integer * 2^-fraction

Every operation is either exact (sums and products below 2^53, powers of two, floor, comparisons, tables) or a
single correctly rounded one (float64 division and square root in GDN), elementwise.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from compressai.layers import GDN
from torch import Tensor, nn

from lightning_modules.errors import CodingError
from lightning_modules.exact.products import POINTWISE, Dense, Geometry, IntegerWeight, Product, geometry_of, products

LIMIT = 1 << 15
"""Activations are 16-bit: clamped to [-LIMIT, LIMIT - 1]."""

OUTPUT_LIMIT = 1 << 31
"""The last layer's integers are 32-bit."""

EXACT = 1 << 53
"""Float64 holds every integer up to this magnitude."""

TABULATED = (nn.ELU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Tanh)
"""Elementwise functions that become a table over all 16-bit activations."""

_ANSWER = "answer"


class Step(Protocol):
    """One layer on integers held in float64; which `product` evaluates its sums makes no difference."""

    def __call__(self, values: Tensor, product: Product) -> Tensor: ...

    def state(self) -> dict[str, Tensor]:
        """Return its integers by name, for storage; the names are the constructor's."""

    def to(self, device: torch.device) -> Step: ...


class Affine:
    """clamp(floor((sum weight * a + bias) * multiplier * 2^-shift + 1/2)): a convolution or a linear layer.

    weight: integers in the float layer's shape. bias, multiplier, shift: (D,) integers, of each output channel.
    limit: outputs lie in [-limit, limit - 1]. Raises ValueError when a sum could leave the exact range.
    """

    def __init__(
        self, geometry: Geometry, limit: int, *, weight: Tensor, bias: Tensor, multiplier: Tensor, shift: Tensor
    ) -> None:
        self.geometry, self.limit = geometry, limit
        self.weight, self.bias, self.multiplier, self.shift = weight, bias, multiplier, shift
        self._weight = IntegerWeight(weight, geometry)
        largest = LIMIT * self._weight.sums + bias.double().abs()
        if bool((largest * multiplier.double() >= EXACT / 2).any()) or not -50 <= shift.min() <= shift.max() <= 50:
            raise ValueError("a sum of this layer could leave the range in which float64 is exact")
        self._scale = geometry.per_channel(multiplier.double() * 2.0 ** -shift.double())
        self._bias = geometry.per_channel(bias.double())

    def __call__(self, values: Tensor, product: Product) -> Tensor:
        return self.finished(product(values, self._weight))

    def finished(self, sums: Tensor) -> Tensor:
        """Do the rest, in place, for sums of products that were made elsewhere."""
        return sums.add_(self._bias).mul_(self._scale).add_(0.5).floor_().clamp_(-self.limit, self.limit - 1)

    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "bias": self.bias, "multiplier": self.multiplier, "shift": self.shift}

    def to(self, device: torch.device) -> Affine:
        return Affine(self.geometry, self.limit, **_moved(self.state(), device))


class Rectifier:
    """max(a, floor(a * slope * 2^-12 + 1/2)): ReLU (slope 0) and LeakyReLU."""

    UNIT = 1 << 12

    def __init__(self, *, slope: Tensor) -> None:
        if not 0 <= int(slope) <= self.UNIT:
            raise ValueError(f"a rectifier's slope lies between 0 and 1, not {int(slope) / self.UNIT}")
        self.slope = slope
        self._slope = int(slope) / self.UNIT

    def __call__(self, values: Tensor, product: Product) -> Tensor:
        del product
        return torch.maximum(values, values.mul(self._slope).add_(0.5).floor_())

    def state(self) -> dict[str, Tensor]:
        return {"slope": self.slope}

    def to(self, device: torch.device) -> Rectifier:
        del device
        return self


class Lookup:
    """table[a + LIMIT]: an elementwise function of a 16-bit activation, evaluated once, at export. table: int16."""

    def __init__(self, *, table: Tensor) -> None:
        if table.shape != (2 * LIMIT,):
            raise ValueError(f"a table has an entry for each of {2 * LIMIT} activations, not {tuple(table.shape)}")
        self.table = table

    def __call__(self, values: Tensor, product: Product) -> Tensor:
        del product
        return self.table[values.to(torch.int64) + LIMIT].to(torch.float64)

    def state(self) -> dict[str, Tensor]:
        return {"table": self.table}

    def to(self, device: torch.device) -> Lookup:
        return Lookup(**_moved(self.state(), device))


class Normalization:
    """Generalised divisive normalisation, a / sqrt(n), n = beta + sum gamma * a^2.

    gamma: (C, C, 1, 1), beta: (C,), integers, beta >= 1. exponent: the power of two that leads to the output's
    unit. The root is correctly rounded and so is the division: the same on every machine, though not exact.
    """

    def __init__(self, geometry: Geometry, *, gamma: Tensor, beta: Tensor, exponent: Tensor) -> None:
        self.geometry, self.gamma, self.beta, self.exponent = geometry, gamma, beta, exponent
        self._gamma = IntegerWeight(gamma, geometry)
        if bool((self._gamma.sums * LIMIT**2 + beta.double() >= EXACT).any()) or min(beta.min(), gamma.min() + 1) < 1:
            raise ValueError("a sum of this normalisation could leave the range in which float64 is exact")
        self._beta = geometry.per_channel(beta.double())
        self._unit = 2.0 ** int(exponent)

    def __call__(self, values: Tensor, product: Product) -> Tensor:
        norm = product.wide(values.square(), self._gamma).add_(self._beta).sqrt_()
        return self.normalized(values, norm).mul_(self._unit).add_(0.5).floor_().clamp_(-LIMIT, LIMIT - 1)

    def normalized(self, values: Tensor, norm: Tensor) -> Tensor:
        return values / norm

    def state(self) -> dict[str, Tensor]:
        return {"gamma": self.gamma, "beta": self.beta, "exponent": self.exponent}

    def to(self, device: torch.device) -> Normalization:
        return type(self)(self.geometry, **_moved(self.state(), device))


class InverseNormalization(Normalization):
    """a * sqrt(n)."""

    def normalized(self, values: Tensor, norm: Tensor) -> Tensor:
        return values * norm


class ExactNetwork:
    """A network on integers: the same output for the same input, wherever and however it is evaluated.

    fractions: of the input and of each step's output, () or (D,) per channel: integer v stands for v * 2^-fraction.
    answer: CRC-32 of the output for `known_input` where the network was exported; None: computed here.
    """

    def __init__(self, steps: Sequence[Step], fractions: Sequence[Tensor], answer: int | None = None) -> None:
        if len(fractions) != len(steps) + 1:
            raise ValueError(f"{len(steps)} steps have {len(steps) + 1} fractions, not {len(fractions)}")
        self.steps, self.fractions = tuple(steps), tuple(fractions)
        cpu = torch.device("cpu")
        self.answer = self._answer(self.steps, cpu, products(cpu)[-1]) if answer is None else answer
        self._evaluations: dict[torch.device, tuple[Product, tuple[Step, ...]]] = {}

    def __call__(self, values: Tensor) -> Tensor:
        """values: integers in float64 or an integer dtype, clamped to 16 bits -> integers in float64.

        Evaluated on the device of `values`, in whichever way is fastest there and proves exact. Raises CodingError
        when none does.
        """
        if _substitutes:
            return _substitutes[-1](self.steps, values)
        device = values.device if values.device.type in ("cpu", "cuda") else torch.device("cpu")
        if device not in self._evaluations:
            self._evaluations[device] = self._proved(device)
        product, steps = self._evaluations[device]
        return evaluate(steps, values.to(device), product)

    def state(self) -> dict[str, Tensor]:
        """Return every integer of the network, and the checksum of its known answer."""
        state = {f"{i}.{name}": value for i, step in enumerate(self.steps) for name, value in step.state().items()}
        state |= {f"fractions.{i}": value for i, value in enumerate(self.fractions)}
        return state | {"answer": torch.tensor(self.answer, dtype=torch.int64)}

    @classmethod
    def from_state(cls, network: nn.Sequential, state: Mapping[str, Tensor]) -> ExactNetwork:
        """Undo `state`, for the float network it was exported from, of which only the layout counts.

        Raises ValueError, TypeError or KeyError for a state of another network, CodingError when this machine does
        not compute the answer that is stored with it.
        """
        exact = cls.unproved(network, state)
        exact(exact.known_input())  # finds a way to evaluate it, or raises
        return exact

    @classmethod
    def unproved(cls, network: nn.Sequential, state: Mapping[str, Tensor]) -> ExactNetwork:
        """`from_state` of a part of something that has a known answer of its own."""
        last = len(network) - 1
        steps = [
            step_from(layer, part_of(state, f"{i}."), OUTPUT_LIMIT if i == last else LIMIT)
            for i, layer in enumerate(network)
        ]
        fractions = [state[f"fractions.{i}"] for i in range(len(steps) + 1)]
        return cls(steps, fractions, int(state["answer"]))

    def known_input(self) -> Tensor:
        """Fixed scattered integers, of a quarter of the range, in the shape that the first layer takes."""
        first = next(step for step in self.steps if isinstance(step, Affine))
        channels = first.geometry.output_first(first.weight).shape[1] * getattr(first.geometry, "groups", 1)
        shape = (2, channels) if isinstance(first.geometry, Dense) else (1, channels, 5, 3)
        count = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)
        return ((count * 40503 + 12345) % 65521 % (LIMIT // 2) - LIMIT // 4).reshape(shape).double()

    def _answer(self, steps: Sequence[Step], device: torch.device, product: Product) -> int:
        answer = evaluate(steps, self.known_input().to(device), product)
        return zlib.crc32(answer.cpu().to(torch.int64).contiguous().numpy().tobytes())

    def _proved(self, device: torch.device) -> tuple[Product, tuple[Step, ...]]:
        steps = self.steps if device.type == "cpu" else tuple(step.to(device) for step in self.steps)
        for product in products(device):
            if self._answer(steps, device, product) == self.answer:
                return product, steps
        raise CodingError(
            f"this {device.type} device computes other integers than the model's known answer, so it would decode "
            "to garbage; use another device (trainer=cpu), and report it"
        )


Evaluation = Callable[[Sequence[Step], Tensor], Tensor]
"""(steps, integers) -> float64 integers."""

_substitutes: list[Evaluation] = []


@contextmanager
def evaluated_by(evaluation: Evaluation) -> Iterator[None]:
    """Have every exact network evaluated in a given way, as a self-test does to compare them."""
    _substitutes.append(evaluation)
    try:
        yield
    finally:
        _substitutes.pop()


@torch.no_grad()
def evaluate(steps: Sequence[Step], values: Tensor, product: Product) -> Tensor:
    """Run the steps on integers of any dtype with a given way of adding products; float64 integers come out."""
    values = values.double().clamp(-LIMIT, LIMIT - 1)
    for step in steps:
        values = step(values, product)
    return values


def step_from(layer: nn.Module, state: Mapping[str, Tensor], limit: int) -> Step:
    """Return the integer form of a float layer. Raises CodingError for a layer that has none."""
    geometry = geometry_of(layer)
    if geometry is not None:
        return Affine(geometry, limit, **state)
    if isinstance(layer, nn.ReLU | nn.LeakyReLU):
        return Rectifier(**state)
    if isinstance(layer, TABULATED):
        return Lookup(**state)
    if type(layer) is GDN:  # its subclass computes something else
        return (InverseNormalization if layer.inverse else Normalization)(POINTWISE, **state)
    raise CodingError(
        f"{type(layer).__name__} has no exact form; networks that give coding parameters may hold convolutions "
        f"padded with zeros, linear layers, ReLU, LeakyReLU, GDN and {', '.join(kind.__name__ for kind in TABULATED)}"
    )


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _moved(state: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in state.items()}
