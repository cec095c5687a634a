"""A derived value belongs to the weights it was derived from, and to no others."""

from __future__ import annotations

import pytest
import torch

from lightning_modules.derived_value import DerivedValue


def test_it_belongs_to_its_sources_until_one_of_their_bits_changes() -> None:
    weight = torch.zeros(3)
    derived = DerivedValue[str]()
    assert not derived.belongs_to({"w": weight})
    derived.adopt("tables", {"w": weight})
    assert derived.belongs_to({"w": weight.clone()})
    assert derived.value == "tables"
    weight.data[1] = -0.0
    assert not derived.belongs_to({"w": weight})


def test_an_empty_one_has_no_value() -> None:
    with pytest.raises(AssertionError, match="update"):
        _ = DerivedValue[int]().value
