"""Integer parameters as a whole: stored and loaded alike, proved where they are loaded, and those of the weights."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.coding.tables import CodingTables, tables_from_pmf
from lightning_modules.densities import factorized_pmfs, update_medians
from lightning_modules.errors import CodingError
from lightning_modules.sic.coding_parameters import SIGMAS, CodingParameters, integer_parameters
from lightning_modules.sic.networks import SicNetworks
from tests.lightning_modules.sic.small_networks import small_networks


@pytest.fixture(scope="module")
def networks() -> SicNetworks:
    networks = small_networks().requires_grad_(False)
    update_medians(networks.entropy_bottleneck)
    return networks


@pytest.fixture(scope="module")
def z_tables(networks: SicNetworks) -> CodingTables:
    return tables_from_pmf(*factorized_pmfs(networks.entropy_bottleneck, 2.0**-26))


@pytest.fixture(scope="module")
def parameters(networks: SicNetworks, z_tables: CodingTables) -> CodingParameters:
    return integer_parameters(networks, z_tables)


def test_stored_parameters_are_loaded_as_they_were(networks: SicNetworks, parameters: CodingParameters) -> None:
    state = parameters.state()
    again = CodingParameters.from_state(networks.hs, state).state()
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_the_same_weights_give_the_same_integers(
    networks: SicNetworks, z_tables: CodingTables, parameters: CodingParameters
) -> None:
    again = integer_parameters(networks, z_tables).state()
    assert all(torch.equal(again[name], value) for name, value in parameters.state().items())


@pytest.mark.parametrize(
    "name", ["answer", "groups.0.context.bias", "groups.3.context.weight", "groups.2.network.4.weight", "medians"]
)
def test_a_machine_that_computes_something_else_is_told_so(
    networks: SicNetworks, parameters: CodingParameters, name: str
) -> None:
    state = parameters.state()
    changed = state[name].flip(0) if state[name].ndim else state[name] + 1
    with pytest.raises(CodingError, match="other integers than the model's known answer"):
        CodingParameters.from_state(networks.hs, {**state, name: changed})


def test_floating_point_weights_are_those_that_the_integers_stand_for(
    networks: SicNetworks, parameters: CodingParameters
) -> None:
    implied = parameters.float_weights()
    own = networks.state_dict()
    assert set(implied) == {
        name for name in own if name.startswith(("hs.", "context_model.", "entropy_parameters.")) and "mask" not in name
    }
    for name, value in implied.items():
        assert value.shape == own[name].shape
        largest = own[name].abs().flatten(1).amax(1) if value.ndim > 1 else own[name].abs().max()
        assert float((value - own[name]).abs().max()) <= 0.01 * float(largest.max())


def test_the_ladder_of_scales_rises_from_the_training_bound() -> None:
    assert len(SIGMAS) == 64
    assert list(SIGMAS) == sorted(set(SIGMAS))
    assert SIGMAS[0] == pytest.approx(0.11)
