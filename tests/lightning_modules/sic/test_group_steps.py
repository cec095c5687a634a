"""Coding step by step: as many steps as the wavefront needs, and the parameters of the evaluation at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_modules.sic.group_steps import FloatGroup, Front, fill_group, fronts
from lightning_modules.sic.networks import SicNetworks
from tests.lightning_modules.sic.small_networks import small_networks


def code_all_groups(networks: SicNetworks, hyper: Tensor, y_hat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A sender that looks up every symbol: (y_hat as found, scales, means) of all groups."""
    scales, means, found = torch.zeros_like(y_hat), torch.zeros_like(y_hat), y_hat[:, :0]
    for group in range(networks.groups):
        span = slice(group * networks.group_width, (group + 1) * networks.group_width)

        def look_up(front: Front, own_scales: Tensor, own_means: Tensor, span: slice = span) -> Tensor:
            scales[:, span, front.rows, front.columns] = own_scales
            means[:, span, front.rows, front.columns] = own_means
            return y_hat[:, span, front.rows, front.columns]

        layers = FloatGroup(networks.context_model, networks.entropy_parameters, group)
        found = torch.cat([found, fill_group(layers, hyper, found, look_up)], dim=1)
    return found, scales, means


@pytest.mark.parametrize(("size", "steps"), [((16, 16), 976), ((32, 48), 2256), ((88, 128), 6224)])
def test_sixteen_groups_take_the_steps_of_the_wavefront(size: tuple[int, int], steps: int) -> None:
    assert 16 * len(fronts(size)) == steps


def test_every_position_has_one_step_after_all_that_it_sees() -> None:
    height, width = 6, 7
    step = torch.full((height, width), -1)
    for number, front in enumerate(fronts((height, width))):
        assert (step[front.rows, front.columns] == -1).all()
        step[front.rows, front.columns] = number
    assert (step >= 0).all()
    for i in range(height):
        for j in range(width):
            seen = [(k, m) for k in range(max(0, i - 2), i + 1) for m in range(max(0, j - 2), min(width, j + 3))]
            assert all(step[k, m] < step[i, j] for k, m in seen if (k, m) < (i, j))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_step_by_step_gives_the_parameters_of_all_at_once(dtype: torch.dtype, tolerance: float) -> None:
    networks = small_networks().to(dtype)
    torch.manual_seed(3)
    hyper = torch.randn(2, 2 * networks.channels, 5, 7, dtype=dtype)
    y_hat = (3 * torch.randn(2, networks.channels, 5, 7, dtype=dtype)).round()
    with torch.no_grad():
        expected = networks.parameters_of_y(hyper, y_hat)
    found, *parameters = code_all_groups(networks, hyper, y_hat)
    assert torch.equal(found, y_hat)
    for once, stepwise in zip(expected, parameters, strict=True):
        assert float(once.std()) > 0.1, "the example is trivial"
        assert torch.allclose(stepwise, once, rtol=0, atol=tolerance)


def test_a_receiver_who_knows_no_symbol_in_advance_finds_the_senders_parameters() -> None:
    """It learns y_hat - round(means) only: a wrong parameter anywhere would end in a wrong symbol."""
    networks = small_networks()
    torch.manual_seed(4)
    hyper = torch.randn(1, 2 * networks.channels, 4, 6)
    y_hat = (3 * torch.randn(1, networks.channels, 4, 6)).round()
    _, _, means = code_all_groups(networks, hyper, y_hat)
    sent = y_hat - means.round()
    found = y_hat[:, :0]
    for group in range(networks.groups):
        span = slice(group * networks.group_width, (group + 1) * networks.group_width)

        def receive(front: Front, _scales: Tensor, own_means: Tensor, span: slice = span) -> Tensor:
            return sent[:, span, front.rows, front.columns] + own_means.round()

        layers = FloatGroup(networks.context_model, networks.entropy_parameters, group)
        found = torch.cat([found, fill_group(layers, hyper, found, receive)], dim=1)
    assert torch.equal(found, y_hat)
    assert float(means.abs().max()) > 0.5, "the example is trivial"


def test_coding_draws_no_random_numbers() -> None:
    networks = small_networks()
    hyper, y_hat = torch.randn(1, 24, 2, 2), torch.zeros(1, 12, 2, 2)
    before = torch.get_rng_state()
    code_all_groups(networks, hyper, y_hat)
    assert torch.equal(torch.get_rng_state(), before)
