"""Integer groups: the same answer in every order, close to the networks they stand for, and stored without loss."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from lightning_modules.coding.shifted_tables import shifted_tables
from lightning_modules.coding.tables import tables_from_pmf
from lightning_modules.densities import factorized_pmfs, update_medians
from lightning_modules.exact.products import Float64Product, TapProduct
from lightning_modules.sic.coding_parameters import SIGMAS, CodingParameters, integer_parameters
from lightning_modules.sic.group_steps import Front, fill_group, parameters_at_once
from lightning_modules.sic.integer_group import FRACTIONS, IntegerGroup
from lightning_modules.sic.networks import SicNetworks
from tests.lightning_modules.sic.small_networks import small_networks


@pytest.fixture(scope="module")
def networks() -> SicNetworks:
    networks = small_networks().requires_grad_(False)
    update_medians(networks.entropy_bottleneck)
    return networks


@pytest.fixture(scope="module")
def parameters(networks: SicNetworks) -> CodingParameters:
    return integer_parameters(networks, tables_from_pmf(*factorized_pmfs(networks.entropy_bottleneck, 2.0**-26)))


def integers(*shape: int, reach: int, seed: int) -> Tensor:
    return torch.randint(-reach, reach + 1, shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.fixture(scope="module")
def y() -> Tensor:
    """Some of it beyond 8 bits."""
    y = integers(2, 12, 8, 12, reach=3, seed=1)
    y[:, :, 3, 4] *= 1000
    return y


@pytest.fixture(scope="module")
def hyper(parameters: CodingParameters) -> Tensor:
    return parameters.hyper(integers(2, 6, 2, 3, reach=2, seed=0))


def parts(group: IntegerGroup, y: Tensor) -> tuple[Tensor, Tensor]:
    """Groups before it, and its own."""
    first = group.group * group.width
    return y[:, :first], y[:, first : first + group.width]


def step_by_step(group: IntegerGroup, hyper: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """What a receiver computes, who is told a front's symbols only once it has asked."""
    earlier, own = parts(group, y)
    keys, bases = torch.full_like(own, -1), torch.full_like(own, -1)

    def source(front: Front, key: Tensor, base: Tensor) -> Tensor:
        keys[..., front.rows, front.columns] = key
        bases[..., front.rows, front.columns] = base
        return own[..., front.rows, front.columns]

    fill_group(group, hyper, earlier, source)
    return keys, bases


def test_step_by_step_gives_to_the_last_bit_what_all_at_once_gives(
    parameters: CodingParameters, hyper: Tensor, y: Tensor
) -> None:
    for group in parameters.groups:
        at_once = parameters_at_once(group, hyper, *parts(group, y))
        for once, stepwise in zip(at_once, step_by_step(group, hyper, y), strict=True):
            assert torch.equal(once, stepwise)
            assert len(once.unique()) > 2, "the example is trivial"


@pytest.mark.parametrize("product", [Float64Product(), TapProduct(torch.int64), TapProduct(torch.float64)])
def test_sums_of_any_kind_are_the_same(
    product: Float64Product, parameters: CodingParameters, hyper: Tensor, y: Tensor
) -> None:
    for group in parameters.groups:
        assert torch.equal(group.known(hyper, parts(group, y)[0]), group.by(product).known(hyper, parts(group, y)[0]))


def test_one_and_two_threads_and_a_batch_give_the_same(parameters: CodingParameters, hyper: Tensor, y: Tensor) -> None:
    group, threads = parameters.groups[-1], torch.get_num_threads()
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(torch.stack(parameters_at_once(group, hyper, *parts(group, y))))
    finally:
        torch.set_num_threads(threads)
    alone = [torch.stack(parameters_at_once(group, hyper[i : i + 1], *parts(group, y[i : i + 1]))) for i in (0, 1)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], torch.cat(alone, dim=1))


def test_integers_of_y_beyond_8_bits_count_as_the_last_within(
    parameters: CodingParameters, hyper: Tensor, y: Tensor
) -> None:
    group = parameters.groups[2]
    bounded = [parameters_at_once(group, hyper, *parts(group, v)) for v in (y, y.clamp(-128, 127))]
    assert torch.equal(torch.stack(bounded[0]), torch.stack(bounded[1]))


def test_tables_are_those_of_the_networks_scales_and_means(
    networks: SicNetworks, parameters: CodingParameters, hyper: Tensor, y: Tensor
) -> None:
    """Within half a step of the grid, and what 8 bits of weights leave open."""
    y = y.clamp(-3, 3)
    z_hat = integers(2, 6, 2, 3, reach=2, seed=0) + networks.entropy_bottleneck.quantiles[:, 0, 1].reshape(-1, 1, 1)
    scales, means = networks.parameters_of_y(networks.features_of_z(z_hat.float()), y.float())
    found = [parameters_at_once(group, hyper, *parts(group, y)) for group in parameters.groups]
    keys, bases = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
    sigma = torch.tensor(SIGMAS)[(keys // FRACTIONS).long()]
    mean = bases + keys % FRACTIONS / FRACTIONS
    inside = (scales > SIGMAS[0]) & (scales < SIGMAS[-1])
    assert float(inside.double().mean()) > 0.5
    assert bool(((sigma - scales).abs() < 0.09 * scales + 0.03)[inside].all())
    assert float((mean - means).abs().max()) < 0.1
    assert float(means.std()) > 0.1, "the example is trivial"


def test_a_stored_group_is_the_same_group(parameters: CodingParameters, hyper: Tensor, y: Tensor) -> None:
    for group in parameters.groups:
        again = IntegerGroup.from_state(group.state(), group._thresholds, len(parameters.groups))
        before, after = (torch.stack(parameters_at_once(g, hyper, *parts(g, y))) for g in (group, again))
        assert torch.equal(before, after)


def test_the_grid_of_tables_costs_at_most_a_thousandth() -> None:
    """Of a Gaussian's bits on the integers, wherever its scale lies from 0.3 and its mean."""
    tables = shifted_tables(SIGMAS, FRACTIONS)
    generator = torch.Generator().manual_seed(0)
    scale = torch.exp(torch.rand(1000, generator=generator, dtype=torch.float64) * 5.3 - 1.2)
    mean = torch.rand(1000, generator=generator, dtype=torch.float64) - 0.5
    symbols = torch.arange(-400, 401, dtype=torch.float64)
    edges = (torch.stack([symbols - 0.5, symbols + 0.5])[:, None] - mean[:, None]) / scale[:, None]
    mass = (torch.erf(edges[1] / 2**0.5) - torch.erf(edges[0] / 2**0.5)).div(2).clamp_min(1e-300)
    ranks = torch.bucketize(scale, torch.tensor([(a * b) ** 0.5 for a, b in itertools.pairwise(SIGMAS)]))
    whole = torch.floor(mean * FRACTIONS + 0.5)
    keys = (ranks * FRACTIONS + whole % FRACTIONS).long()[:, None].expand(-1, len(symbols))
    coded = (symbols - torch.div(whole, FRACTIONS, rounding_mode="floor")[:, None]).long()
    cost = torch.from_numpy(tables.bits(coded.numpy(), keys.numpy()))
    assert float((mass * cost).sum() / -(mass * mass.log2()).sum()) < 1.001
