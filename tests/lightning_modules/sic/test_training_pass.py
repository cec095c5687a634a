"""A training pass against its formulas, in float64: rates group by group, and the loss of each phase.

The transforms (ga, gs, ha, hs) are taken as they are, their own tests check them; all between and after them is
computed here a second time, with loops over groups and positions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import erfc, expit
from torch import Tensor

from lightning_modules.sic.detail import uniform_detail
from lightning_modules.sic.discriminator import Discriminator
from lightning_modules.sic.level_schedule import LevelTable
from lightning_modules.sic.losses import consistency, evenness, generator_loss, progressive_loss, warm_up_loss
from lightning_modules.sic.networks import SicNetworks
from lightning_modules.sic.training_pass import Coding, code, compare, group_bpp, reconstruct, synonyms
from tests.lightning_modules.sic.small_networks import pictures, small_networks

Array = NDArray[np.float64]

LEVELS = LevelTable(levels=4, distortion=2048.0, perception=(32.0, 8.0), rate=(64.0, 1.0))
B, SIDE = 2, 64
PIXELS = B * SIDE * SIDE


class Example(NamedTuple):
    networks: SicNetworks
    x: Tensor
    z_noise: Tensor
    y_noise: Tensor
    coding: Coding


@pytest.fixture(scope="module")
def example() -> Example:
    networks = small_networks().double().requires_grad_(False)
    networks.entropy_bottleneck.float()  # its density is float32 everywhere
    x = pictures(B, 3, SIDE, SIDE).double()
    generator = torch.Generator().manual_seed(5)
    z_noise = torch.rand(B, 6, 1, 1, generator=generator) - 0.5
    y_noise = torch.rand(B, 12, 4, 4, generator=generator, dtype=torch.float64) - 0.5
    return Example(networks, x, z_noise, y_noise, code(networks, x, z_noise))


def numpy(value: Tensor) -> Array:
    return value.detach().double().numpy()


def distance(x: Tensor, x_hat: Tensor) -> Tensor:
    """Stands for LPIPS: any metric may be injected."""
    return (x.diff(dim=-1) - x_hat.diff(dim=-1)).abs().flatten(1).mean(1)


# ---- the formulas, a second time


def z_bits(networks: SicNetworks, z: Array) -> float:
    """Sum of -log2 of the cumulative's rise over a unit box (Balle et al. 2018, appendix 6.1)."""
    bottleneck = networks.entropy_bottleneck
    total = 0.0
    for channel in range(z.shape[1]):

        def cumulative(value: float, channel: int = channel) -> float:
            logits = np.array([[value]])
            for layer, matrix in enumerate(bottleneck.matrices):
                weight = np.log1p(np.exp(numpy(matrix)[channel]))
                logits = weight @ logits + numpy(bottleneck.biases[layer])[channel]
                if layer < 4:
                    logits = logits + np.tanh(numpy(bottleneck.factors[layer])[channel]) * np.tanh(logits)
            return float(expit(logits[0, 0]))

        for value in z[:, channel].ravel():
            total -= math.log2(max(1e-9, cumulative(value + 0.5) - cumulative(value - 0.5)))
    return total


def parameters(networks: SicNetworks, hyper: Array, y_hat: Array) -> tuple[Array, Array]:
    """Scales and means, (C, h, w), of one picture."""
    groups, width = networks.groups, networks.group_width
    channels, height, across = y_hat.shape
    weight, bias = (numpy(networks.context_model.layer.get_parameter(name)) for name in ("weight", "bias"))
    layers = [numpy(value) for value in networks.entropy_parameters.layer.parameters()]
    scales, means = np.zeros_like(y_hat), np.zeros_like(y_hat)
    for k in range(groups):
        own = slice(k * width, (k + 1) * width)
        rows = slice(2 * width * k, 2 * width * (k + 1))
        for i in range(height):
            for j in range(across):
                context = bias[rows].copy()
                for dy in range(5):
                    for dx in range(5):
                        a, b = i + dy - 2, j + dx - 2
                        if 0 <= a < height and 0 <= b < across:
                            context += weight[rows, : k * width, dy, dx] @ y_hat[: k * width, a, b]
                            if dy < 2 or (dy == 2 and dx < 2):
                                context += weight[rows, own, dy, dx] @ y_hat[own, a, b]
                value = np.concatenate([hyper[:channels][own, i, j], hyper[channels:][own, i, j], context])
                for layer in range(3):
                    matrix, offset = layers[2 * layer], layers[2 * layer + 1]
                    of_group = slice(k * len(matrix) // groups, (k + 1) * len(matrix) // groups)
                    value = matrix[of_group, :, 0, 0] @ value + offset[of_group]
                    value = np.where(value > 0, value, 0.01 * value) if layer < 2 else value
                scales[own, i, j], means[own, i, j] = value[:width], value[width:]
    return scales, means


def y_bits(values: Array, scales: Array, means: Array, groups: int) -> Array:
    """(B, C, h, w) -> (L,) bits of each group over the whole batch."""
    sigma = np.maximum(scales, 0.11)
    distance = np.abs(values - means)
    upper, lower = (0.5 * erfc(-(edge - distance) / sigma / math.sqrt(2)) for edge in (0.5, -0.5))
    bits = -np.log2(np.clip(upper - lower, 1e-9, 1))
    return bits.reshape(len(bits), groups, -1).sum((0, 2))


def squares(a: Tensor, b: Tensor) -> float:
    return float(np.mean((numpy(a) - numpy(b)) ** 2))


# ---- rates


def test_the_rate_of_z_is_that_of_its_density_under_noise(example: Example) -> None:
    _, z = example.networks.latents_of(example.x)
    expected = z_bits(example.networks, numpy(z + example.z_noise)) / PIXELS
    assert float(example.coding.z_bpp) == pytest.approx(expected, rel=1e-5)


def test_z_is_rounded_on_the_grid_of_its_medians_before_anything_is_made_of_it(example: Example) -> None:
    networks, coding = example.networks, example.coding
    _, z = networks.latents_of(example.x)
    offset = networks.entropy_bottleneck.quantiles[:, 0, 1].double().reshape(1, -1, 1, 1)
    hyper = networks.hs(torch.round(z - offset) + offset)
    assert torch.allclose(torch.cat([coding.hyper_scales, coding.hyper_means], 1), hyper, rtol=0, atol=1e-12)
    assert float((networks.hs(z) - hyper).abs().max()) > 0.01


def test_parameters_are_those_of_loops_over_groups_and_positions(example: Example) -> None:
    coding = example.coding
    assert torch.equal(coding.y_hat, coding.y.round())
    for image in range(B):
        hyper = np.concatenate([numpy(coding.hyper_scales[image]), numpy(coding.hyper_means[image])])
        scales, means = parameters(example.networks, hyper, numpy(coding.y_hat[image]))
        assert np.allclose(numpy(coding.scales[image]), scales, rtol=0, atol=1e-12)
        assert np.allclose(numpy(coding.means[image]), means, rtol=0, atol=1e-12)


@pytest.mark.parametrize("noisy", [True, False], ids=["y plus noise", "y rounded"])
def test_bits_of_each_group_are_those_of_gaussians_on_the_integers(example: Example, noisy: bool) -> None:
    coding = example.coding
    values = coding.y + example.y_noise if noisy else coding.y.round()
    expected = y_bits(numpy(values), numpy(coding.scales), numpy(coding.means), 4) / PIXELS
    found = numpy(group_bpp(example.networks, coding, values))
    assert found == pytest.approx(expected, rel=1e-9)
    assert found.min() > 0


# ---- losses of the phases


def test_the_loss_of_the_warm_up_is_its_formula(example: Example) -> None:
    networks, coding, x = example.networks, example.coding, example.x
    x_hat = reconstruct(networks, coding.y_hat, (64, 64))
    rates = group_bpp(networks, coding, coding.y + example.y_noise)
    loss = warm_up_loss(LEVELS, compare(x, x_hat, coding.z_bpp + rates.sum(), distance), rates)

    decoded = networks.gs(coding.y.round()).clamp(0, 1)
    bpp = y_bits(numpy(coding.y + example.y_noise), numpy(coding.scales), numpy(coding.means), 4) / PIXELS
    z_bpp = z_bits(networks, numpy(networks.latents_of(x)[1] + example.z_noise)) / PIXELS
    expected = 2048 * squares(x, decoded) + 8 * float(distance(x, decoded).mean())
    expected += bpp.std(ddof=1) - bpp.min() + bpp.sum() + z_bpp
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def draws(samples: int, level: int) -> Tensor:
    generator = torch.Generator().manual_seed(level)
    return torch.rand(samples, B, 12 - 3 * level, 4, 4, generator=generator, dtype=torch.float64)


class Reference(NamedTuple):
    """Of the main phase: full = A and sampled = S(l), each without the rate, and the consistency's two terms."""

    full: float
    sampled: float
    shared: float
    detail: float
    pictures: list[Tensor]


def reference(example: Example, level: int, uniform: Tensor) -> Reference:
    """Sample by sample, by section 3 of the specification."""
    networks, coding, x = example.networks, example.coding, example.x
    s, samples = 3 * level, len(uniform)
    y_hat = coding.y.round()
    synonyms = [torch.round(coding.hyper_means[:, s:] + 2 * (2 * u - 1)) for u in uniform]
    decoded = [networks.gs(y_hat).clamp(0, 1)]
    decoded += [networks.gs(torch.cat([y_hat[:, :s], detail], 1)).clamp(0, 1) for detail in synonyms]
    again = [networks.ga(picture) for picture in decoded]
    weights = LEVELS(level)
    full = 2048 * squares(x, decoded[0]) + 8 * float(distance(x, decoded[0]).mean())
    mse = np.mean([squares(x, picture) for picture in decoded[1:]])
    perceptual = np.mean([float(distance(x, picture).mean()) for picture in decoded[1:]])
    shared = squares(y_hat, again[0]) + sum(squares(y_hat[:, :s], y[:, :s]) for y in again[1:])
    detail = sum(squares(d, y[:, s:]) for d, y in zip(synonyms, again[1:], strict=True)) if level < 4 else 0.0
    sampled = weights.distortion * mse + weights.perception * perceptual
    return Reference(full, float(sampled), shared / (samples + 1), detail / (samples + 1), decoded)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("samples", [1, 5])
def test_the_loss_of_the_main_phase_is_its_formula(example: Example, level: int, samples: int) -> None:
    networks, coding, x = example.networks, example.coding, example.x
    rates = group_bpp(networks, coding, coding.y + example.y_noise)
    hard = group_bpp(networks, coding, coding.y_hat)
    details = uniform_detail(coding.hyper_means[:, 3 * level :], draws(samples, level), reach=2.0)
    found = reconstruct(networks, synonyms(coding, details), (64, 64))
    full = compare(x, found[:B], coding.z_bpp + rates.sum(), distance)
    sampled = compare(x, found[B:], coding.z_bpp + rates[:level].sum(), distance)
    again = consistency(coding.y_hat, details, networks.y_of(found), absent=1)
    loss = progressive_loss(LEVELS, level, full, sampled, again, alpha=0.5)
    early = loss + evenness(hard, level, deviation=64.0, reward=4.0)

    expected = reference(example, level, draws(samples, level))
    noisy = y_bits(numpy(coding.y + example.y_noise), numpy(coding.scales), numpy(coding.means), 4) / PIXELS
    rounded = y_bits(numpy(coding.y.round()), numpy(coding.scales), numpy(coding.means), 4) / PIXELS
    z_bpp = float(coding.z_bpp)
    total = 0.5 * (expected.full + noisy.sum() + z_bpp)
    total += 0.5 * (expected.sampled + LEVELS(level).rate * (noisy[:level].sum() + z_bpp))
    total += expected.shared + expected.detail
    assert float(again.shared) == pytest.approx(expected.shared, rel=1e-9)
    assert float(again.detail) == pytest.approx(expected.detail, rel=1e-9)
    assert float(loss) == pytest.approx(total, rel=1e-9)
    assert float(early - loss) == pytest.approx(64 * rounded.std(ddof=1) - 4 * rounded[level - 1], rel=1e-9)


def test_the_loss_of_the_last_phase_adds_the_game_to_each_perceptual_distance(example: Example) -> None:
    networks, coding, x, level = example.networks, example.coding, example.x, 2
    torch.manual_seed(6)
    judge = Discriminator(groups=4, group_width=3, condition=5, widths=[4, 6, 8, 10]).double()
    for _ in range(10):  # power iterations, one a pass
        judge(x, coding.y_hat, level)
    judge.eval().requires_grad_(False)
    rates = group_bpp(networks, coding, coding.y + example.y_noise)
    details = uniform_detail(coding.hyper_means[:, 6:], draws(3, level), reach=2.0)
    found = reconstruct(networks, synonyms(coding, details), (64, 64))
    y_hat = coding.y_hat
    games = (
        generator_loss(judge(found[:B], y_hat, level)),
        generator_loss(judge(found[B:], y_hat.repeat(3, 1, 1, 1), level)),
    )
    bpps = coding.z_bpp + rates.sum(), coding.z_bpp + rates[:level].sum()
    terms = [
        term._replace(perceptual=term.perceptual + game)
        for term, game in zip(
            (compare(x, found[:B], bpps[0], distance), compare(x, found[B:], bpps[1], distance)), games, strict=True
        )
    ]
    again = consistency(y_hat, details, networks.y_of(found), absent=1)
    loss = progressive_loss(LEVELS, level, terms[0], terms[1], again, alpha=0.5)

    expected = reference(example, level, draws(3, level))
    logits = [numpy(judge(picture, y_hat, level)) for picture in expected.pictures]
    g_syn, *g_sam = (float(np.mean(np.logaddexp(0, -value))) for value in logits)
    noisy = y_bits(numpy(coding.y + example.y_noise), numpy(coding.scales), numpy(coding.means), 4) / PIXELS
    weights, z_bpp = LEVELS(level), float(coding.z_bpp)
    total = 0.5 * (expected.full + 8 * g_syn + noisy.sum() + z_bpp)
    total += 0.5 * (expected.sampled + weights.perception * np.mean(g_sam) + weights.rate * (noisy[:2].sum() + z_bpp))
    assert float(loss) == pytest.approx(total + expected.shared + expected.detail, rel=1e-9)


# ---- gradients


def gradients(loss: Tensor, networks: SicNetworks) -> dict[str, bool]:
    """Whether each part of the codec has learned anything of a loss."""
    networks.zero_grad()
    loss.backward()
    parts: dict[str, Any] = dict(networks.named_children())
    return {
        name: any(p.grad is not None and bool(p.grad.any()) for p in part.parameters()) for name, part in parts.items()
    }


def test_every_part_learns_from_the_main_loss() -> None:
    networks = small_networks()
    x = pictures(1, 3, 64, 64)
    coding = code(networks, x, torch.zeros(1, 6, 1, 1))
    rates = group_bpp(networks, coding, coding.y)
    details = uniform_detail(coding.hyper_means[:, 6:], torch.rand(2, 1, 6, 4, 4), reach=2.0)
    found = reconstruct(networks, synonyms(coding, details), (64, 64))
    full, sampled = (compare(x, part, rates.sum() + coding.z_bpp, distance) for part in (found[:1], found[1:]))
    again = consistency(coding.y_hat, details, networks.y_of(found), absent=1)
    learned = gradients(progressive_loss(LEVELS, 2, full, sampled, again, alpha=0.5), networks)
    assert [name for name, some in learned.items() if not some] == ["gaussian_conditional"]


def test_drawn_detail_teaches_the_hyperprior_and_the_analysis() -> None:
    """Its means come from z_hat: what is decoded with it has gradients to hs, ha and ga, and none to the context."""
    networks = small_networks()
    coding = code(networks, pictures(1, 3, 64, 64), torch.zeros(1, 6, 1, 1))
    details = uniform_detail(coding.hyper_means[:, 3:], torch.rand(1, 1, 9, 4, 4), reach=2.0)
    learned = gradients(F.mse_loss(details, torch.zeros_like(details)), networks)
    assert {name for name, some in learned.items() if some} == {"ga", "ha", "hs"}
