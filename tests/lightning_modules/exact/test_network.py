"""Integer networks: the integers of a trained float network, the same in every evaluation, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from compressai.layers import GDN, GDN1, MaskedConv2d
from torch import Tensor, nn

from lightning_modules.errors import CodingError
from lightning_modules.exact.export import MARGIN, export, float_weights, fraction_for
from lightning_modules.exact.network import LIMIT, Affine, ExactNetwork, Rectifier, evaluate
from lightning_modules.exact.products import Float64Product, LimbProduct, Product, TapProduct, geometry_of

WAYS: list[Product] = [LimbProduct(), Float64Product(), TapProduct(torch.float64), TapProduct(torch.int64)]
OUTPUT_BITS = 10

NETWORKS: dict[str, Callable[[], list[nn.Module]]] = {
    "leaky": lambda: [nn.ConvTranspose2d(6, 8, 5, 2, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 4, 3, padding=1)],
    "rectified": lambda: [nn.Conv2d(6, 12, 5, 2, 2), nn.ReLU(), nn.Conv2d(12, 4, 3, padding=1, groups=2)],
    "masked": lambda: [MaskedConv2d(6, 8, kernel_size=5, padding=2), nn.LeakyReLU(), nn.Conv2d(8, 4, 1)],
    "without bias": lambda: [nn.Conv2d(6, 8, 3, bias=False), nn.Tanh(), nn.Conv2d(8, 4, 1, bias=False)],
    "tabulated": lambda: [nn.Conv2d(6, 8, 3), nn.ELU(), nn.Conv2d(8, 8, 1), nn.Softplus(), nn.Conv2d(8, 4, 1)],
    "normalised": lambda: [
        nn.Conv2d(6, 8, 3, 2, 1),
        GDN(8),
        nn.ConvTranspose2d(8, 8, 4, 2, 1),
        GDN(8, inverse=True),
        nn.Conv2d(8, 4, 1),
    ],
    "linear": lambda: [
        nn.Linear(6, 16),
        nn.SiLU(),
        nn.Linear(16, 16),
        nn.GELU(),
        nn.Linear(16, 3),
        nn.Sigmoid(),
        nn.Linear(3, 4),
    ],
}


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    with torch.no_grad():
        yield


def network(name: str) -> nn.Sequential:
    torch.manual_seed(3)
    layers = nn.Sequential(*NETWORKS[name]())
    for layer in layers:
        if isinstance(layer, GDN):
            layer.gamma.add_(0.1 * torch.rand(8, 8))
    return layers


def examples(name: str, count: int = 16) -> Tensor:
    shape = (count, 6) if name == "linear" else (count, 6, 8, 8)
    return 4 * torch.randn(shape, generator=torch.Generator().manual_seed(4))


def exported(name: str) -> ExactNetwork:
    return export(network(name), examples(name), torch.full((4,), OUTPUT_BITS))


def integers(exact: ExactNetwork, x: Tensor) -> Tensor:
    return (x.double() * 2.0 ** int(exact.fractions[0])).round()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_integers_follow_the_float_network(name: str) -> None:
    """To the precision of 8-bit weights: about 1 % of what the outputs vary by."""
    exact, x = exported(name), examples(name, count=40)
    expected = network(name)(x).double()
    found = exact(integers(exact, x)) * 2.0**-OUTPUT_BITS
    error = float((found - expected).square().mean().sqrt() / expected.std())
    assert error < 0.02, error
    assert error > 0, "nothing was rounded"


@pytest.mark.parametrize("name", NETWORKS)
def test_every_evaluation_gives_the_same_integers(name: str) -> None:
    exact = exported(name)
    values = integers(exact, examples(name))
    outputs = [evaluate(exact.steps, values, way) for way in WAYS]
    assert torch.equal(outputs[0], outputs[0].round())
    assert all(torch.equal(output, outputs[0]) for output in outputs[1:])
    assert torch.equal(torch.cat([exact(one[None]) for one in values]), outputs[0])
    assert torch.equal(exact(values.to(torch.int32)), outputs[0])


@pytest.mark.parametrize("name", ["leaky", "normalised", "tabulated"])
def test_compiling_changes_nothing(name: str) -> None:
    exact = exported(name)
    values = integers(exact, examples(name, count=2))
    expected = evaluate(exact.steps, values, WAYS[1])
    compiled = torch.compile(lambda numbers: evaluate(exact.steps, numbers, WAYS[1]))
    assert torch.equal(compiled(values), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_stored_network_is_the_same_network(name: str) -> None:
    exact = exported(name)
    state = {key: value.clone() for key, value in exact.state().items()}
    assert not any(value.is_floating_point() for value in state.values())
    again = ExactNetwork.from_state(nn.Sequential(*NETWORKS[name]()), state)
    values = integers(exact, examples(name))
    assert torch.equal(again(values), exact(values))
    assert all(torch.equal(value, state[key]) for key, value in again.state().items())


@pytest.mark.parametrize("name", ["leaky", "rectified", "linear"])
def test_the_float_weights_of_an_integer_network_export_to_it_again(name: str) -> None:
    exact, rounded = exported(name), network(name)
    missing, unexpected = rounded.load_state_dict(float_weights(exact), strict=False)
    assert (missing, unexpected) == ([], [])
    x = examples(name)
    found, expected = exact(integers(exact, x)) * 2.0**-OUTPUT_BITS, rounded(x).double()
    assert float((found - expected).square().mean().sqrt() / expected.std()) < 2e-3, "only activations are rounded"


def test_inputs_beyond_16_bits_are_clamped() -> None:
    exact = exported("leaky")
    far = torch.full((1, 6, 4, 4), 1e12, dtype=torch.float64)
    assert torch.equal(exact(far), exact(torch.full_like(far, LIMIT - 1)))
    assert torch.equal(exact(-far), exact(torch.full_like(far, -LIMIT)))


def test_no_activation_of_the_examples_is_clamped() -> None:
    exact, x = exported("leaky"), examples("leaky")
    values = integers(exact, x)
    assert float(values.abs().max()) <= LIMIT / MARGIN + 1
    for step in exact.steps[:-1]:
        values = step(values, Float64Product())
        assert LIMIT / 8 < float(values.abs().max()) < LIMIT - 1


def test_a_rectifier_rounds_to_nearest_and_keeps_what_is_positive() -> None:
    values = torch.tensor([-5000.0, -150.0, -50.0, -49.0, -1.0, 0.0, 1.0, 50.0, 32767.0], dtype=torch.float64)
    leaky = Rectifier(slope=torch.tensor(41))
    assert leaky(values, WAYS[1]).tolist() == [-50.0, -2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 50.0, 32767.0]
    assert Rectifier(slope=torch.tensor(0))(values, WAYS[1]).tolist() == [0.0] * 6 + [1.0, 50.0, 32767.0]


def test_a_channel_of_vanishing_weights_and_a_large_bias_is_exported() -> None:
    layer = nn.Conv2d(6, 4, 1)
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    weight[0], weight[1], bias[0], bias[1] = 1e-9, 0.0, 3.0, 0.0
    exact = export(nn.Sequential(layer), examples("leaky"), torch.full((4,), OUTPUT_BITS))
    output = exact(integers(exact, examples("leaky")))
    assert output[:, 0].unique().tolist() == [3.0 * 2**OUTPUT_BITS]
    assert output[:, 1].unique().tolist() == [0.0]


# ---- what is refused


def test_a_layer_that_could_leave_the_exact_range_is_refused() -> None:
    geometry = geometry_of(nn.Conv2d(1, 1, 1))
    assert geometry is not None

    def layer(weight: int) -> Affine:
        one = torch.tensor([1])
        return Affine(
            geometry,
            LIMIT,
            weight=torch.full((1, 1, 1, 1), weight),
            bias=one,
            multiplier=torch.tensor([1 << 15]),
            shift=torch.tensor([15]),
        )

    largest = (1 << 52) // (1 << 15) // LIMIT - 1
    assert float(layer(largest)(torch.tensor([[[[-32768.0]]]]).double(), WAYS[1])) == -LIMIT
    with pytest.raises(ValueError, match="exact"):
        layer(largest + 1)


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(8), nn.MaxPool2d(2), GDN1(8), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")]
)
def test_a_layer_without_exact_form_is_refused_by_name(layer: nn.Module) -> None:
    layers = nn.Sequential(nn.Conv2d(6, 8, 1), layer, nn.Conv2d(8, 4, 1))
    with pytest.raises(CodingError, match=f"{type(layer).__name__} has no exact form; .*GDN and"):
        export(layers, examples("leaky"), torch.full((4,), OUTPUT_BITS))


def test_a_network_that_ends_without_a_sum_is_refused() -> None:
    with pytest.raises(CodingError, match="ends with a convolution or linear layer, not ReLU"):
        export(nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU()), examples("leaky"), torch.full((4,), OUTPUT_BITS))


def test_weights_that_diverged_are_refused() -> None:
    layers = network("leaky")
    layers[0].get_parameter("weight")[0, 0, 0, 0] = float("nan")
    with pytest.raises(CodingError, match="not finite"):
        export(layers, examples("leaky"), torch.full((4,), OUTPUT_BITS))
    assert int(fraction_for(torch.zeros(3))) > 0


def test_a_machine_that_computes_another_answer_is_refused() -> None:
    state = exported("leaky").state()
    state["answer"] = state["answer"] + 1
    with pytest.raises(CodingError, match="known answer"):
        ExactNetwork.from_state(network("leaky"), state)


def test_a_faster_evaluation_that_is_not_exact_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rounding(LimbProduct):
        def __call__(self, values: Tensor, weight: object) -> Tensor:
            return super().__call__(values, weight) + 3  # type: ignore[arg-type]

    monkeypatch.setattr("lightning_modules.exact.products", lambda device: [Rounding(), Float64Product()])
    exact = exported("leaky")
    values = integers(exact, examples("leaky"))
    assert torch.equal(exact(values), evaluate(exact.steps, values, Float64Product()))


@pytest.mark.parametrize("change", ["0.weight", "2.multiplier", "fractions.1"])
def test_a_state_of_another_network_is_refused(change: str) -> None:
    state: Mapping[str, Tensor] = {key: value for key, value in exported("leaky").state().items() if key != change}
    with pytest.raises((KeyError, TypeError)):
        ExactNetwork.from_state(network("leaky"), state)
