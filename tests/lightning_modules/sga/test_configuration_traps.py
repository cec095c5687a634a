"""Configurations of refinements: each is built and works; traps of the list in `test_traps.py` that they avoid."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.launch.resolvers import at_or_below
from lightning_modules.sga import methods, rounding
from lightning_modules.sga.target_search import TargetSearch

CONF = Path(__file__).resolve().parents[3] / "conf"
OTHERS = {"amortized", "refinement", "bb_plain", "bb_no_sga", "bb_sga"}
"""No refinements of the latents that a hyperprior codes: the last three are those of a codec of their own."""

ROWS = sorted({path.stem for path in (CONF / "inference").glob("*.yaml")} - OTHERS)


@pytest.fixture(scope="module")
def configurations() -> Iterator[None]:
    assert OmegaConf.has_resolver(at_or_below.__name__), "importing its file registers what configurations compute"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture(scope="module")
def rows(configurations: None) -> dict[str, DictConfig]:
    """The configuration of each refinement that run.py offers."""
    return {row: compose("config", [f"inference={row}"]).inference for row in ROWS}


@pytest.mark.parametrize("row", ["amortized", *ROWS])
@pytest.mark.usefixtures("configurations")
def test_every_row_finds_latents_in_the_number_of_steps_and_for_the_lmbda_that_a_sweep_sets(
    row: str, codec: HyperpriorCodec, x: Tensor
) -> None:
    config = compose("config", [f"inference={row}", "inference.steps=2", "inference.lmbda=0.002"]).inference
    infer = hydra.utils.instantiate(config, _convert_="all")
    latents = infer(codec, x)
    codec.encode(latents)
    assert [record.step for trace in getattr(infer, "trace", []) for record in trace] in ([0, 2], [])


@pytest.mark.usefixtures("configurations")
def test_a_target_is_a_setting_of_every_row() -> None:
    for target in ("target_bpp", "target_psnr"):
        config = compose("config", ["inference=sga", f"inference.{target}=0.5"]).inference
        search = hydra.utils.instantiate(config, _convert_="all")
        assert isinstance(search, TargetSearch)
        assert (search.quantity.name, search.target) == (target, 0.5)


def test_trap_10_sga_has_its_own_schedule_not_that_of_deterministic_annealing(rows: dict[str, DictConfig]) -> None:
    sga, annealing = rows["sga"].method.schedule, rows["danneal"].method.schedule
    assert (sga._target_, sga.rate, sga.upper, sga.start) == (
        "lightning_modules.sga.temperature.delayed_exponential",
        1e-3,
        0.5,
        700,
    )
    assert (annealing._target_, annealing.rate, annealing.upper) == (
        "lightning_modules.sga.temperature.exponential",
        4e-3,
        0.2,
    )


def test_trap_12_three_class_ssl_has_the_parameters_of_the_paper_not_of_the_example(
    rows: dict[str, DictConfig],
) -> None:
    at_integer = []
    for row in ("sga_ssl3", "sga_ssl3_example"):
        rule = rows[row].method.rule
        probabilities = rounding.ssl3(rule.f, rule.n, rule.a).probabilities(torch.zeros(1), 1.0)[1]
        at_integer.append(float(probabilities[0, 1]))
    assert at_integer == pytest.approx([0.9925, 0.7373], abs=1e-4)


@pytest.mark.parametrize(("lmbda", "width"), [(0.001, 192), (0.00100001, 192), (0.04, 256), (0.0400001, 256)])
@pytest.mark.usefixtures("configurations")
def test_trap_24_the_widths_do_not_hang_on_an_exact_comparison_of_lmbda(lmbda: float, width: int) -> None:
    codec = compose("config", [f"lmbda={lmbda}"]).module.codec
    assert (width, width) == (codec.N, codec.M)


def test_trap_26_a_row_names_its_one_method(rows: dict[str, DictConfig]) -> None:
    assert {"map", "ste", "unoise", "danneal", "sga", "sga_linear", "sga_cosine", "sga_ssl"} < set(rows)
    for row in rows.values():
        name = row.method._target_.rpartition(".")[2]
        assert inspect.isclass(getattr(methods, name))
