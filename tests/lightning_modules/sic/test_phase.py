"""The phases against their formulas, in float64, and what their validation measures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_modules.sic.level_schedule import descending
from lightning_modules.sic.training_pass import code
from tests.lightning_modules.sic import formulas
from tests.lightning_modules.sic.formulas import Example, example_of, numpy, squares
from tests.lightning_modules.sic.small_networks import pictures, small_networks
from tests.lightning_modules.sic.small_training import EPOCH, TABLE, WARM_UP, progressive

NAMES = ("mse", "perceptual", "bpp")


@pytest.fixture(scope="module")
def example() -> Example:
    return example_of(small_networks(), batch=2)


def drawn_again(example: Example, seed: int) -> Example:
    """The example with the noise that a phase draws from this seed: of z, then of y."""
    networks, x = example.networks, example.x
    torch.manual_seed(seed)
    z_noise = torch.rand(len(x), 6, 1, 1) - 0.5
    y_noise = torch.rand(len(x), 12, 4, 4, dtype=torch.float64) - 0.5
    return Example(networks, x, z_noise, y_noise, code(networks, x, z_noise))


def details(example: Example, level: int, samples: int) -> Tensor:
    """What a phase draws next."""
    return torch.rand(samples, len(example.x), 12 - 3 * level, 4, 4, dtype=torch.float64)


def test_the_warm_up_is_its_formula(example: Example) -> None:
    expected = formulas.warm_up_loss(drawn_again(example, seed=3))
    torch.manual_seed(3)
    loss = WARM_UP(example.networks, example.x, 0).loss
    assert float(loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("step", range(4))
def test_the_main_phase_is_its_formula_at_the_level_of_its_step(example: Example, step: int, samples: int) -> None:
    level = 4 - step
    again = drawn_again(example, seed=step)
    expected = formulas.main_loss(again, level, details(again, level, samples))
    torch.manual_seed(step)
    loss = progressive(samples)(example.networks, example.x, 8 + step).loss
    assert float(loss) == pytest.approx(expected, rel=1e-9)


def test_groups_are_kept_even_in_the_first_two_epochs_only(example: Example) -> None:
    def loss(step: int, epochs: int) -> float:
        torch.manual_seed(0)
        return float(progressive(epochs=epochs)(example.networks, example.x, step).loss)

    extras = [loss(step, 2) - loss(step, 0) for step in (0, 2 * EPOCH - 1, 2 * EPOCH)]
    expected = [formulas.evenness(example, level) for level in (4, 1)]
    assert extras == pytest.approx([*expected, 0.0], rel=1e-6)


def test_levels_go_down_from_the_top_and_begin_again(example: Example) -> None:
    taken = [progressive().decode(example.networks, example.x, step).level for step in range(6)]
    assert taken == [4, 3, 2, 1, 4, 3] == [descending(4)(step) for step in range(6)]


def test_validation_measures_what_files_will_cost(example: Example) -> None:
    """Rounded latents, so the same numbers every time, and of the picture without what continues it."""
    networks, x = example.networks, pictures(1, 3, 50, 70, seed=2).double()
    coding = code(networks, torch.nn.functional.pad(x, (0, 58, 0, 14), mode="replicate"), torch.zeros(1, 6, 1, 2))
    rates = formulas.y_bits(numpy(coding.y.round()), numpy(coding.scales), numpy(coding.means), 4) / (50 * 70)
    z = networks.latents_of(x)[1]
    offset = networks.entropy_bottleneck.quantiles[:, 0, 1].double().reshape(1, -1, 1, 1)
    z_bpp = formulas.z_bits(networks, numpy(torch.round(z - offset) + offset)) / (50 * 70)
    decoded = networks.gs(coding.y.round()).clamp(0, 1)[..., :50, :70]
    expected = 2048 * squares(x, decoded) + 8 * float(formulas.distance(x, decoded).mean()) + rates.sum() + z_bpp
    found = WARM_UP.validate(networks, x)
    assert float(found.bpp) == pytest.approx(rates.sum() + z_bpp, rel=1e-6)
    assert float(found.loss) == pytest.approx(expected, rel=1e-6)
    assert torch.equal(found.x_hat, decoded)


def test_validation_of_the_main_phase_means_over_all_levels_with_detail_that_never_changes(example: Example) -> None:
    x, phase = example.x[:1], progressive()
    found, again = (phase.validate(example.networks, x) for _ in range(2))
    assert float(found.loss) == float(again.loss)
    levels = range(1, 5)
    mean = sum(
        sum(weight * float(found.terms[f"{name}_{level}"]) for weight, name in zip(TABLE(level), NAMES, strict=True))
        for level in levels
    )
    full = sum(weight * float(found.terms[f"{name}_full"]) for weight, name in zip(TABLE.top, NAMES, strict=True))
    assert float(found.loss) == pytest.approx(0.5 * full + 0.5 * mean / 4, rel=1e-9)
    rates = [float(found.terms[f"bpp_{level}"]) for level in levels]
    assert rates == sorted(rates)
    assert float(found.bpp) == pytest.approx(rates[-1])
    assert float(found.terms["mse_4"]) == pytest.approx(squares(x, found.x_hat))
