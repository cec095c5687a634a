"""Rounding rules: class probabilities by the formulas, what a sample is, limits, symmetry, and no NaN anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_modules.sga.noise import logistic
from lightning_modules.sga.rounding import Rule, atanh, cosine, cosine3, linear, linear3, ssl, ssl3

TWO_CLASSES = {"atanh": atanh(), "linear": linear(), "cosine": cosine(), "ssl1.4": ssl(1.4), "ssl2.3": ssl(2.3)}
THREE_CLASSES = {
    "linear3": linear3(0.98, 1.5),
    "cosine3": cosine3(0.98, 2.0),
    "ssl3": ssl3(1.4, 1.5, 1.4),
    "ssl3 of the example": ssl3(0.98, 1.4, 1.4),
}
RULES = TWO_CLASSES | THREE_CLASSES
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
EPS = 1e-5

TWO_CLASS_LOGITS: dict[str, Callable[[float], float]] = {
    "atanh": lambda w: -math.atanh(min(w, 1 - EPS)),
    "linear": lambda w: math.log(1 - min(w, 1 - EPS)),
    "cosine": lambda w: math.log((1 - 1e-7) * math.cos(math.pi * w / 2) ** 2 + 1e-7),
    "ssl1.4": lambda w: _ssl(w, 1.4),
    "ssl2.3": lambda w: _ssl(w, 2.3),
}
THREE_CLASS_LOGITS: dict[str, Callable[[float], float]] = {
    "linear3": lambda w: 1.5 * math.log(max(1 - 0.98 * abs(w), 1e-6)),
    "cosine3": lambda w: math.log(max(0.0, math.cos(math.pi / 2 * max(-1, min(1, 0.98 * w)))) ** 2 + 1e-7),
    "ssl3": lambda w: _ssl3(w, 1.4, 1.5, 1.4),
    "ssl3 of the example": lambda w: _ssl3(w, 0.98, 1.4, 1.4),
}


def _ssl(w: float, a: float) -> float:
    w = min(max(w, EPS), 1 - EPS)
    return -math.log(1 + (w / (1 - w)) ** a)


def _ssl3(w: float, f: float, n: float, a: float) -> float:
    q = min(max(abs(w) * f / 1.5, 1e-6), 1 - 1e-6)
    return n * math.log(max(1 / (1 + (q / (1 - q)) ** a), 1e-6))


def by_formula(name: str, value: float, temperature: float) -> tuple[list[float], list[float]]:
    """Classes and probabilities of one value, as the papers write them: a softmax of logits over tau."""
    if name in TWO_CLASSES:
        classes = [math.floor(value), math.ceil(value)]
        logits = [TWO_CLASS_LOGITS[name](abs(value - c)) / temperature for c in classes]
    else:
        classes = [round(value) + step for step in (-1, 0, 1)]
        logits = [THREE_CLASS_LOGITS[name](value - c) / temperature for c in classes]
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [float(c) for c in classes], [weight / sum(weights) for weight in weights]


def dense_grid(dtype: torch.dtype) -> Tensor:
    """Integers, half-integers, their neighbours in floating point, and everything between."""
    points = torch.arange(-3, 3.5, 0.5, dtype=dtype)
    beside = [points.nextafter(points + 1), points.nextafter(points - 1), points + 1e-6, points - 1e-6]
    return torch.cat([points, *beside, torch.linspace(-3, 3, 2001, dtype=dtype)])


def repeated(uniforms: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """A draw that gives these tensors in turn."""
    numbers = iter(uniforms)
    return lambda like: next(numbers).to(like)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-6)])
def test_probabilities_are_those_of_the_formulas(
    name: str, temperature: float, dtype: torch.dtype, tolerance: float
) -> None:
    # a float32 value's own rounding moves probabilities where they are steep, hence values that float32 holds exactly
    value = torch.cat([torch.arange(-2048, 2049) / 1024.0, torch.tensor([2.0**-20, 1 - 2.0**-20])]).to(dtype)
    classes, probabilities = RULES[name].probabilities(value, temperature)
    expected = [by_formula(name, float(v), temperature) for v in value]
    assert classes.tolist() == [c for c, _ in expected]
    difference = probabilities.double() - torch.tensor([p for _, p in expected], dtype=torch.float64)
    assert float(difference.abs().max()) <= tolerance


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (atanh(), (0.327934, 0.192308, 7.65e-4)),
        (linear(), (0.25, 0.1, 1.69e-5)),
        (cosine(), (0.146447, 0.028596, 2.2e-8)),
        (ssl(4 / 3), (0.187732, 0.050708, 4.3e-7)),
        (ssl(1.4), (0.176818, 0.044103, 2.1e-7)),
        (ssl(2.3), (0.074000, 0.006346, 1.1e-11)),
    ],
    ids=["atanh", "linear", "cosine", "ssl 4/3", "ssl 1.4", "ssl 2.3"],
)
def test_a_quarter_above_an_integer_the_ceiling_has_the_known_probability(
    rule: Rule, expected: tuple[float, ...]
) -> None:
    value = torch.tensor(0.25, dtype=torch.float64)
    for temperature, probability in zip((1.0, 0.5, 0.1), expected, strict=True):
        assert float(rule.probabilities(value, temperature)[1][1]) == pytest.approx(probability, rel=0.03, abs=6e-7)


@pytest.mark.parametrize(
    ("name", "at_integer", "at_quarter"),
    [
        ("linear3", 0.994375, (1.3e-9, 0.827852, 0.172148)),
        ("cosine3", 0.998030, (9.8e-8, 0.840113, 0.159887)),
        ("ssl3", 0.992503, (1.1e-9, 0.872055, 0.127945)),
        ("ssl3 of the example", 0.737258, (0.034625, 0.665326, 0.300050)),
    ],
)
def test_three_classes_have_the_known_probabilities(
    name: str, at_integer: float, at_quarter: tuple[float, ...]
) -> None:
    probabilities = RULES[name].probabilities(torch.tensor([2.0, 2.25], dtype=torch.float64), 1.0)[1]
    assert float(probabilities[0, 1]) == pytest.approx(at_integer, abs=6e-7)
    assert probabilities[1].tolist() == pytest.approx(list(at_quarter), abs=6e-7)


@every_rule
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_probabilities_sum_to_one_and_mirror_with_the_value(rule: Rule, temperature: float) -> None:
    value = dense_grid(torch.float64)
    classes, probabilities = rule.probabilities(value, temperature)
    mirrored_classes, mirrored = rule.probabilities(-value, temperature)
    assert float((probabilities.sum(-1) - 1).abs().max()) < 1e-12
    assert torch.equal(mirrored_classes.flip(-1), -classes)
    assert float((mirrored.flip(-1) - probabilities).abs().max()) < 1e-9


@pytest.mark.parametrize("rule", TWO_CLASSES.values(), ids=TWO_CLASSES)
def test_two_classes_trade_places_when_the_value_moves_to_the_other_side(rule: Rule) -> None:
    value = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    there = rule.probabilities(value, 0.7)[1]
    back = rule.probabilities(1 - value, 0.7)[1]
    assert float((there - back.flip(-1)).abs().max()) < 1e-9


@every_rule
def test_a_cold_rule_is_hard_rounding(rule: Rule) -> None:
    value = torch.linspace(-3, 3, 601, dtype=torch.float64)
    value = value[(value - value.floor() - 0.5).abs() > 1e-3]
    assert torch.equal(rule.mean(value, 1e-8), value.round())
    classes, probabilities = rule.probabilities(value, 1e-8)
    assert torch.equal((classes * probabilities).sum(-1), value.round())


@every_rule
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_mean_is_that_of_the_probabilities(rule: Rule, temperature: float) -> None:
    value = dense_grid(torch.float64)
    classes, probabilities = rule.probabilities(value, temperature)
    difference = rule.mean(value, temperature) - (classes * probabilities).sum(-1)
    assert float(difference.abs().max()) < 1e-12


@pytest.mark.parametrize("name", THREE_CLASSES)
def test_a_sample_of_three_classes_is_a_gumbel_softmax(name: str) -> None:
    value = torch.linspace(-2, 2, 401, dtype=torch.float64)
    uniforms = list(torch.rand(3, 401, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    classes, probabilities = RULES[name].probabilities(value, 0.5)
    gumbels = -torch.log(-torch.log(torch.stack(uniforms, -1)))
    softened = torch.softmax((probabilities.log() + gumbels) / 0.5, -1)
    difference = RULES[name].sample(value, 0.5, repeated(uniforms)) - (classes * softened).sum(-1)
    assert float(difference.abs().max()) < 1e-9


@pytest.mark.parametrize("name", TWO_CLASSES)
def test_a_sample_of_two_classes_is_a_gumbel_softmax_whose_two_gumbels_are_one_logistic(name: str) -> None:
    value = torch.linspace(-2, 2, 401, dtype=torch.float64)[1:-1]
    value = value[value != value.round()]
    uniform = torch.rand(len(value), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    classes, probabilities = RULES[name].probabilities(value, 0.5)
    gumbels = torch.stack((torch.zeros_like(uniform), logistic(uniform)), -1)  # only their difference matters
    softened = torch.softmax((probabilities.log() + gumbels) / 0.5, -1)
    difference = RULES[name].sample(value, 0.5, repeated([uniform])) - (classes * softened).sum(-1)
    assert float(difference.abs().max()) < 1e-9


def test_a_logistic_variate_is_distributed_as_the_difference_of_two_gumbels() -> None:
    generator = torch.Generator().manual_seed(0)
    count = 200_000
    first, second, uniform = torch.rand(3, count, dtype=torch.float64, generator=generator).clamp_(1e-12, 1 - 1e-12)
    difference = -torch.log(-torch.log(first)) + torch.log(-torch.log(second))
    for point in (-3.0, -1.0, 0.0, 0.5, 2.0):
        share = 1 / (1 + math.exp(-point))
        slack = 5 * math.sqrt(share * (1 - share) / count)
        assert abs(float((difference < point).double().mean()) - share) < slack
        assert abs(float((logistic(uniform) < point).double().mean()) - share) < slack


@every_rule
@pytest.mark.parametrize("temperature", [1.0, 0.5, 1e-3, 1e-8])
def test_no_value_gives_nan_at_any_temperature(rule: Rule, temperature: float) -> None:
    value = dense_grid(torch.float32).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    extremes = torch.tensor([2.0**-25, 1 - 2.0**-24])

    def draw(like: Tensor) -> Tensor:
        drawn = torch.rand(like.shape, generator=generator).clamp_(min=2.0**-25)
        drawn[:4] = extremes.repeat(2)[torch.randperm(4, generator=generator)]
        return drawn

    for relaxed in (rule.sample(value, temperature, draw), rule.mean(value, temperature)):
        (gradient,) = torch.autograd.grad(relaxed.sum(), value)
        assert bool(torch.isfinite(relaxed).all())
        assert bool(torch.isfinite(gradient).all())
    assert bool(torch.isfinite(rule.probabilities(value, temperature)[1]).all())


@pytest.mark.parametrize("rule", TWO_CLASSES.values(), ids=TWO_CLASSES)
def test_two_classes_leave_an_exact_integer_where_it_is_without_a_gradient(rule: Rule) -> None:
    value = torch.tensor([-2.0, 0.0, 5.0], requires_grad=True)
    relaxed = rule.sample(value, 0.5, lambda like: torch.full_like(like, 0.3))
    (gradient,) = torch.autograd.grad(relaxed.sum(), value)
    assert relaxed.tolist() == value.tolist()
    assert gradient.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("name", "slope"), [("linear3", 2.4e-3), ("ssl3", 1.8e-3)])
def test_three_classes_give_an_exact_integer_a_small_gradient(name: str, slope: float) -> None:
    value = torch.tensor(1.0, dtype=torch.float64)
    step = 1e-6
    ahead, behind = (float(THREE_CLASSES[name].mean(value + s, 0.5)) for s in (step, -step))
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=0.05)


@every_rule
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_gradients_of_a_sample_are_its_slopes(rule: Rule, temperature: float) -> None:
    value = torch.tensor([-1.7, -0.4, 0.2, 0.45, 0.55, 0.8, 2.3], dtype=torch.float64, requires_grad=True)

    def sample(v: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return rule.sample(v, temperature, lambda like: torch.rand(like.shape, generator=generator).to(like))

    assert torch.autograd.gradcheck(sample, (value,))
