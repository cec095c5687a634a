"""Muon: orthogonal steps of filter banks, Adam's steps of everything else, and states that resume."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from torch import nn

from lightning_modules.training.muon import QUINTIC, Muon, orthogonalize

SHAPES = [(16, 3, 5, 5), (8, 8, 3, 3), (192, 4, 5, 5), (64, 1, 3, 3)]


def make_muon(params: list[nn.Parameter], lr: float = 0.02) -> Muon:
    return Muon(params, lr=lr, adam_lr=1e-3, momentum=0.95, betas=(0.9, 0.99), eps=1e-8)


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.LeakyReLU(), nn.ConvTranspose2d(8, 3, 5, 2))


def train(model: nn.Module, optimizer: Muon, steps: range) -> None:
    for step in steps:
        x = torch.rand(2, 3, 17, 17, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model(x) - x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("shape", [(8, 8), (16, 75), (200, 30), (1, 9), (9, 1)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int], scale: float) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(shape[0]))
    singular_values = torch.linalg.svdvals(orthogonalize(scale * matrix))
    assert float(singular_values.min()) >= 0.6
    assert float(singular_values.max()) <= 1.3


def test_orthogonalising_keeps_the_singular_vectors() -> None:
    matrix = torch.randn(12, 40, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    core = left.T @ orthogonalize(matrix) @ right.T
    assert float((core - core.diagonal().diag()).abs().max()) < 1e-3
    assert float(core.diagonal().min()) >= 0.6


def test_gathering_the_rounds_in_the_smaller_dimension_changes_nothing_but_the_cost() -> None:
    """Against the iteration as it is written down, in which every round multiplies the whole matrix."""
    matrix = torch.randn(20, 300, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    a, b, c = QUINTIC
    value = matrix / matrix.norm()
    for _ in range(5):
        gram = value @ value.T
        value = a * value + (b * gram + c * gram @ gram) @ value
    assert torch.allclose(orthogonalize(matrix), value, rtol=0, atol=1e-10)
    assert torch.allclose(orthogonalize(matrix.T), value.T, rtol=0, atol=1e-10)


def test_what_is_orthogonalised_is_a_matter_of_the_number_of_axes() -> None:
    parameters = [nn.Parameter(torch.ones(shape)) for shape in [(4,), (6, 4), (2, 3, 3), (4, 2, 3, 3)]]
    settings = {"lr": 0.1, "adam_lr": 1e-3, "momentum": 0.9, "betas": (0.9, 0.99), "eps": 1e-8}
    banks, rest = Muon(parameters, axes=(2, 4), **settings).param_groups  # type: ignore[arg-type]
    assert (banks["rule"], [p.ndim for p in banks["params"]]) == ("muon", [2, 4])
    assert (rest["rule"], [p.ndim for p in rest["params"]]) == ("adam", [1, 3])


def test_a_step_is_the_same_under_mixed_precision() -> None:
    """In which matrix products are of bfloat16, and the rounds would diverge."""
    after = []
    for enabled in (False, True):
        weight = nn.Parameter(torch.zeros(20, 3, 5, 5))
        weight.grad = torch.randn(20, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            make_muon([weight]).step()
        after.append(weight.detach())
    assert torch.equal(*after)


def test_weak_directions_get_the_same_step_as_strong_ones() -> None:
    generator = torch.Generator().manual_seed(1)
    left, _ = torch.linalg.qr(torch.randn(10, 10, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(30, 10, generator=generator))
    spread = torch.logspace(0, -2, 10)
    singular_values = torch.linalg.svdvals(orthogonalize(left @ spread.diag() @ right.T))
    assert float(spread.max() / spread.min()) == pytest.approx(100)
    assert float(singular_values.max() / singular_values.min()) < 2


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_of_a_filter_bank_has_the_root_mean_square_lr(shape: tuple[int, ...]) -> None:
    bank = nn.Parameter(torch.zeros(shape))
    bank.grad = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 1e-4
    make_muon([bank], lr=0.02).step()
    assert float(bank.detach().square().mean().sqrt()) == pytest.approx(0.02, rel=0.3)


def test_a_step_goes_against_the_gradient() -> None:
    bank = nn.Parameter(torch.zeros(16, 3, 5, 5))
    bank.grad = torch.randn(bank.shape, generator=torch.Generator().manual_seed(2))
    make_muon([bank]).step()
    assert float((bank.detach() * bank.grad).sum()) < 0


def test_a_step_is_that_of_nesterovs_momentum() -> None:
    bank = nn.Parameter(torch.zeros(6, 3, 2, 2))
    first, second = torch.randn(2, *bank.shape, generator=torch.Generator().manual_seed(4))
    optimizer = make_muon([bank], lr=0.02)
    bank.grad = first
    optimizer.step()
    before = bank.detach().clone()
    bank.grad = second
    optimizer.step()
    average = 0.95 * 0.05 * first + 0.05 * second
    ahead = 0.05 * second + 0.95 * average
    expected = -0.02 * 12**0.5 * orthogonalize(ahead.flatten(1)).reshape(bank.shape)
    assert torch.allclose(bank.detach() - before, expected, rtol=0, atol=1e-5)


def test_a_filter_bank_without_any_gradient_stays_finite_and_still() -> None:
    bank = nn.Parameter(torch.ones(4, 3, 5, 5))
    bank.grad = torch.zeros_like(bank)
    make_muon([bank]).step()
    assert torch.equal(bank.detach(), torch.ones_like(bank))


@pytest.mark.parametrize("shape", [(7,), (6, 6), (5, 3, 1)])
def test_all_but_filter_banks_move_as_under_torchs_adam(shape: tuple[int, ...]) -> None:
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    muon = make_muon([ours])
    adam = torch.optim.Adam([theirs], lr=1e-3, betas=(0.9, 0.99), eps=1e-8)
    for step in range(50):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(step)) * 10.0 ** -(step % 5)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        adam.step()
    assert float((theirs.detach() - 1).abs().mean()) > 3e-3
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    bank, bias = nn.Parameter(torch.ones(2, 2, 3, 3)), nn.Parameter(torch.ones(2))
    bias.grad = torch.ones(2)
    make_muon([bank, bias]).step()
    assert torch.equal(bank.detach(), torch.ones_like(bank))
    assert not torch.equal(bias.detach(), torch.ones_like(bias))


def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned() -> None:
    bank = nn.Parameter(torch.ones(2, 2, 3, 3))
    optimizer = make_muon([bank])

    def closure() -> float:
        loss = bank.square().sum()
        loss.backward()
        return float(loss.detach())

    step: Callable[[Callable[[], float]], float | None] = optimizer.step
    assert step(closure) == 36.0
    assert float(bank.detach().square().sum()) < 36.0


def test_training_that_is_saved_and_resumed_ends_with_the_same_bits() -> None:
    unbroken, resumed = network(), network()
    optimizer = make_muon(list(unbroken.parameters()))
    train(unbroken, optimizer, range(12))
    first = make_muon(list(resumed.parameters()))
    train(resumed, first, range(5))
    second = make_muon(list(resumed.parameters()), lr=123.0)
    second.load_state_dict(_through_a_file(first.state_dict()))
    train(resumed, second, range(5, 12))
    for mine, theirs in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_it_lowers_a_loss() -> None:
    model = network()
    x = torch.rand(2, 3, 17, 17, generator=torch.Generator().manual_seed(0))

    def loss() -> float:
        return float((model(x) - x).detach().square().mean())

    before = loss()
    train(model, make_muon(list(model.parameters()), lr=2e-3), range(60))
    assert loss() < 0.5 * before


def _through_a_file(state: dict[str, object]) -> dict[str, object]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, object] = torch.load(file, weights_only=True)
    return loaded
