"""A snapshot notices every change of a bit, however it was made, and nothing else."""

from __future__ import annotations

import torch

from lightning_modules.derived_value import WeightSnapshot


def state() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2], dtype=torch.int16)}


def test_equal_tensors_are_equal_wherever_they_lie() -> None:
    assert WeightSnapshot(state()).equals(state())
    transposed = {**state(), "a": torch.arange(6.0).reshape(2, 3).T.contiguous().T}
    assert WeightSnapshot(state()).equals(transposed)


def test_a_write_that_no_version_counter_sees_is_noticed() -> None:
    tensors = state()
    snapshot = WeightSnapshot(tensors)
    tensors["a"].data[1, 2] += 1e-6
    assert not snapshot.equals(tensors)


def test_zero_with_another_sign_differs_and_nan_equals_itself() -> None:
    assert not WeightSnapshot({"a": torch.tensor([0.0])}).equals({"a": torch.tensor([-0.0])})
    assert WeightSnapshot({"a": torch.tensor([float("nan")])}).equals({"a": torch.tensor([float("nan")])})


def test_names_types_and_shapes_count() -> None:
    snapshot = WeightSnapshot(state())
    assert not snapshot.equals({"a": state()["a"]})
    assert not snapshot.equals({**state(), "a": state()["a"].double()})
    assert not snapshot.equals({**state(), "a": state()["a"].reshape(3, 2)})
    assert not snapshot.equals({"a": state()["a"], "c": state()["b"]})
