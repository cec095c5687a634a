"""conf/optimizer and conf/schedule build what a module takes, in place of one another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue
from torch import nn

CONF = Path(__file__).resolve().parents[3] / "conf"


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(group: str, name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=[f"+{group}={name}", "+steps=1000", *overrides])
    node = cfg[group]
    assert isinstance(node, DictConfig)
    return node


@pytest.mark.parametrize("name", names("optimizer"))
def test_an_optimizer_moves_filters_and_biases_down_the_slope(name: str) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    optimizer = instantiate(composed("optimizer", name), _convert_="all")(layer.parameters())
    layer(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    for was, parameter in zip(before, layer.parameters(), strict=True):
        assert parameter.grad is not None
        assert ((parameter.detach() - was) * parameter.grad).sum() < 0


@pytest.mark.parametrize(("name", "last"), [("constant", 1.0), ("cosine", 0.01), ("stepwise", 0.25)])
def test_a_schedule_begins_at_the_rate_and_ends_where_its_file_says(name: str, last: float) -> None:
    own = {"stepwise": ["schedule.milestones=[300,600]", "schedule.factor=0.5"]}.get(name, [])
    factor = instantiate(composed("schedule", name, *own), _convert_="all")
    assert max(factor(step) for step in range(1000)) == 1.0
    assert factor(1000) == pytest.approx(last)
    assert name in names("schedule")


def test_a_stepwise_schedule_has_no_milestones_of_its_own() -> None:
    with pytest.raises(MissingMandatoryValue, match="milestones"):
        instantiate(composed("schedule", "stepwise"), _convert_="all")
