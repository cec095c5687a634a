"""A training pass against its formulas, in float64: rates group by group, and the loss of each phase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor

from lightning_modules.sic.discriminator import Discriminator
from lightning_modules.sic.losses import consistency, evenness, generator_loss, progressive_loss, warm_up_loss
from lightning_modules.sic.networks import SicNetworks
from lightning_modules.sic.synonym_noise import uniform_detail
from lightning_modules.sic.training_pass import code, compare, group_bpp, reconstruct, synonyms
from tests.lightning_modules.sic import formulas
from tests.lightning_modules.sic.formulas import (
    SIDE,
    Example,
    distance,
    draws,
    example_of,
    numpy,
    parameters,
    reference,
    table,
    z_bits,
)
from tests.lightning_modules.sic.small_networks import pictures, small_networks


@pytest.fixture(scope="module")
def example() -> Example:
    return example_of(small_networks(), batch=2)


# ---- rates


def test_the_rate_of_z_is_that_of_its_density_under_noise(example: Example) -> None:
    _, z = example.networks.latents_of(example.x)
    expected = z_bits(example.networks, numpy(z + example.z_noise)) / (2 * SIDE * SIDE)
    assert float(example.coding.z_bpp) == pytest.approx(expected, rel=1e-5)


def test_z_is_rounded_on_the_grid_of_its_medians_before_anything_is_made_of_it(example: Example) -> None:
    networks, coding = example.networks, example.coding
    _, z = networks.latents_of(example.x)
    offset = networks.entropy_bottleneck.quantiles[:, 0, 1].double().reshape(1, -1, 1, 1)
    hyper = networks.hs(torch.round(z - offset) + offset)
    assert torch.allclose(torch.cat([coding.hyper_scales, coding.hyper_means], 1), hyper, rtol=0, atol=1e-12)
    assert float((networks.hs(z) - hyper).abs().max()) > 0.01


def assert_parameters_are_those_of_loops(example: Example) -> None:
    coding = example.coding
    assert torch.equal(coding.y_hat, coding.y.round())
    for image in range(len(example.x)):
        hyper = np.concatenate([numpy(coding.hyper_scales[image]), numpy(coding.hyper_means[image])])
        scales, means = parameters(example.networks, hyper, numpy(coding.y_hat[image]))
        assert np.allclose(numpy(coding.scales[image]), scales, rtol=0, atol=1e-12)
        assert np.allclose(numpy(coding.means[image]), means, rtol=0, atol=1e-12)


def test_parameters_are_those_of_loops_over_groups_and_positions(example: Example) -> None:
    assert_parameters_are_those_of_loops(example)


@pytest.mark.parametrize("noisy", [True, False], ids=["y plus noise", "y rounded"])
def test_bits_of_each_group_are_those_of_gaussians_on_the_integers(example: Example, noisy: bool) -> None:
    coding = example.coding
    values = coding.y + example.y_noise if noisy else coding.y.round()
    found = numpy(group_bpp(example.networks, coding, values))
    assert found == pytest.approx(example.bpp_by_definition(values), rel=1e-9)
    assert found.min() > 0


# ---- losses of the phases


def test_the_loss_of_the_warm_up_is_its_formula(example: Example) -> None:
    assert_warm_up_is_its_formula(example)


def assert_warm_up_is_its_formula(example: Example) -> None:
    networks, coding, x = example.networks, example.coding, example.x
    x_hat = reconstruct(networks, coding.y_hat, (SIDE, SIDE))
    rates = group_bpp(networks, coding, coding.y + example.y_noise)
    loss = warm_up_loss(table(networks), compare(x, x_hat, coding.z_bpp + rates.sum(), distance), rates)
    assert float(loss) == pytest.approx(formulas.warm_up_loss(example), rel=1e-6)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("samples", [1, 5])
def test_the_loss_of_the_main_phase_is_its_formula(example: Example, level: int, samples: int) -> None:
    assert_main_is_its_formula(example, level, samples)


def assert_main_is_its_formula(example: Example, level: int, samples: int) -> None:
    networks, coding, x = example.networks, example.coding, example.x
    batch, levels = len(x), table(networks)
    rates = group_bpp(networks, coding, coding.y + example.y_noise)
    hard = group_bpp(networks, coding, coding.y_hat)
    uniform = draws(example, samples, level)
    details = uniform_detail(coding.hyper_means[:, networks.group_width * level :], uniform, reach=2.0)
    found = reconstruct(networks, synonyms(coding, details), (SIDE, SIDE))
    full = compare(x, found[:batch], coding.z_bpp + rates.sum(), distance)
    sampled = compare(x, found[batch:], coding.z_bpp + rates[:level].sum(), distance)
    again = consistency(coding.y_hat, details, networks.y_of(found), absent=1)
    loss = progressive_loss(levels, level, full, sampled, again, alpha=0.5)
    early = loss + evenness(hard, level, deviation=64.0, reward=4.0)

    expected = reference(example, level, uniform)
    assert float(again.shared) == pytest.approx(expected.shared, rel=1e-9)
    assert float(again.detail) == pytest.approx(expected.detail, rel=1e-9)
    assert float(loss) == pytest.approx(formulas.main_loss(example, level, uniform), rel=1e-9)
    assert float(early - loss) == pytest.approx(formulas.evenness(example, level), rel=1e-9)


def test_the_loss_of_the_last_phase_adds_the_game_to_each_perceptual_distance(example: Example) -> None:
    networks, coding, x, level = example.networks, example.coding, example.x, 2
    torch.manual_seed(6)
    judge = Discriminator(groups=4, group_width=3, condition=5, widths=[4, 6, 8, 10]).double()
    for _ in range(10):  # power iterations, one a pass
        judge(x, coding.y_hat, level)
    judge.eval().requires_grad_(False)
    rates = group_bpp(networks, coding, coding.y + example.y_noise)
    uniform = draws(example, 3, level)
    details = uniform_detail(coding.hyper_means[:, 6:], uniform, reach=2.0)
    found, y_hat = reconstruct(networks, synonyms(coding, details), (SIDE, SIDE)), coding.y_hat
    judged = judge(found[:2], y_hat, level), judge(found[2:], y_hat.repeat(3, 1, 1, 1), level)
    bpps = coding.z_bpp + rates.sum(), coding.z_bpp + rates[:level].sum()
    full, sampled = (
        terms._replace(perceptual=terms.perceptual + generator_loss(logits))
        for terms, logits in zip(
            (compare(x, found[:2], bpps[0], distance), compare(x, found[2:], bpps[1], distance)), judged, strict=True
        )
    )
    again = consistency(y_hat, details, networks.y_of(found), absent=1)
    loss = progressive_loss(table(networks), level, full, sampled, again, alpha=0.5)

    expected = reference(example, level, uniform)
    logits = [numpy(judge(picture, y_hat, level)) for picture in expected.pictures]
    g_syn, *g_sam = (float(np.mean(np.logaddexp(0, -value))) for value in logits)
    noisy, z_bpp = example.bpp_by_definition(coding.y + example.y_noise), float(coding.z_bpp)
    total = 0.5 * (expected.full + 8 * g_syn + noisy.sum() + z_bpp)
    total += 0.5 * (expected.sampled + 16 * np.mean(g_sam) + 8 * (noisy[:2].sum() + z_bpp))
    assert float(loss) == pytest.approx(total + expected.shared + expected.detail, rel=1e-9)


@pytest.mark.slow
def test_rates_and_losses_of_the_full_model_are_their_formulas(repository: Path) -> None:
    torch.manual_seed(0)
    sizes = OmegaConf.load(repository / "conf" / "networks" / "sic.yaml")
    full_size = example_of(SicNetworks(**{str(key): value for key, value in sizes.items()}), batch=1)
    assert_parameters_are_those_of_loops(full_size)
    for values in (full_size.coding.y + full_size.y_noise, full_size.coding.y_hat):
        found = numpy(group_bpp(full_size.networks, full_size.coding, values))
        assert found == pytest.approx(full_size.bpp_by_definition(values), rel=1e-9)
    assert_warm_up_is_its_formula(full_size)
    assert_main_is_its_formula(full_size, level=5, samples=1)


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
    learned = gradients(progressive_loss(table(networks), 2, full, sampled, again, alpha=0.5), networks)
    assert [name for name, some in learned.items() if not some] == ["gaussian_conditional"]


def test_drawn_detail_teaches_the_hyperprior_and_the_analysis() -> None:
    """Its means come from z_hat: what is decoded with it has gradients to hs, ha and ga, and none to the context."""
    networks = small_networks()
    coding = code(networks, pictures(1, 3, 64, 64), torch.zeros(1, 6, 1, 1))
    details = uniform_detail(coding.hyper_means[:, 3:], torch.rand(1, 1, 9, 4, 4), reach=2.0)
    learned = gradients(F.mse_loss(details, torch.zeros_like(details)), networks)
    assert {name for name, some in learned.items() if some} == {"ga", "ha", "hs"}
