"""Reading weights: every wrapping that occurs in the wild, and every kind of file that is none."""

from __future__ import annotations

import io
import pickle
import random
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compressai.models import MeanScaleHyperprior
from safetensors.torch import save_file
from torch import Tensor, nn

from lightning_modules.checkpoints.state_dict import normalize, read_state_dict
from lightning_modules.errors import CodingError

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """What CompressAI saves after building its tables: 91 tensors, some of them stale tables."""
    torch.manual_seed(0)
    model = MeanScaleHyperprior(8, 12)
    model.update(force=True)
    return dict(model.state_dict())


@pytest.fixture(scope="module")
def learned(state: State) -> State:
    """The part of it that was trained, and the constants."""
    tables = ("_quantized_cdf", "_offset", "_cdf_length", "scale_table")
    return {name: value for name, value in state.items() if not name.endswith(tables)}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def averaged(state: State) -> State:
    """What torch.optim.swa_utils.AveragedModel saves."""
    return {"n_averaged": torch.tensor(3), **prefixed("module.", state)}


def of_lightning(state: State) -> dict[str, Any]:
    """A Lightning checkpoint whose module holds the codec, an average of it, and a metric."""
    weights = {
        **prefixed("codec.", state),
        **{name: torch.zeros_like(value) for name, value in prefixed("average.codec.", state).items()},
        "metric.total": torch.zeros(()),
    }
    return {
        "epoch": 3,
        "global_step": 12,
        "pytorch-lightning_version": "2.6",
        "state_dict": weights,
        "optimizer_states": [{"state": {0: {"step": 3, "average": torch.zeros(2)}}, "param_groups": []}],
        "callbacks": {"checkpoint": {"best_model_path": "best.ckpt", "best_model_score": torch.tensor(1.0)}},
    }


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "of CompressAI's training example": lambda state: {"epoch": 7, "state_dict": state, "loss": 0.3},
    "under network": lambda state: {"network": state, "step": 3},
    "of DataParallel": lambda state: prefixed("module.", state),
    "of DataParallel, under state_dict": lambda state: {"state_dict": prefixed("module.", state)},
    "of an average": averaged,
    "of a compiled model": lambda state: prefixed("_orig_mod.", state),
    "of a compiled model under DataParallel": lambda state: prefixed("module._orig_mod.", state),
    "of a wrapping model": lambda state: {"state_dict": prefixed("model.", state)},
    "of Lightning": of_lightning,
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS.keys())
def test_weights_are_found_in_a_checkpoint(
    wrap: Callable[[State], Any], state: State, learned: State, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(wrap(state), path)
    _assert_same(read_state_dict(path), learned)


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch_are_read(zipped: bool, state: State, learned: State, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    _assert_same(read_state_dict(path), learned)


def test_safetensors_of_others_are_read(state: State, learned: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({name: value.clone() for name, value in prefixed("module.", state).items()}, path)
    _assert_same(read_state_dict(path), learned)


@pytest.mark.parametrize(
    ("matrix", "bias", "factor"),
    [("_matrix{}", "_bias{}", "_factor{}"), ("_matrices.{}", "_biases.{}", "_factors.{}")],
)
def test_older_names_of_the_bottleneck_are_understood(
    matrix: str, bias: str, factor: str, state: State, learned: State
) -> None:
    older = dict(state)
    for today, pattern in (("matrices", matrix), ("biases", bias), ("factors", factor)):
        for index in range(5 if today != "factors" else 4):
            value = older.pop(f"entropy_bottleneck.{today}.{index}")
            older[f"entropy_bottleneck.{pattern.format(index)}"] = value
    assert set(older) != set(state)
    _assert_same(normalize(older), learned)


def test_layers_that_are_called_like_a_wrapper_keep_their_names() -> None:
    state = {"net.0.weight": torch.zeros(1), "model.bias": torch.ones(1), "prior.network.0": torch.ones(2)}
    assert normalize(state) == state


def test_a_bias_outside_the_bottleneck_keeps_its_name() -> None:
    state = {"g_a.0.bias": torch.zeros(1), "h_s.bias0": torch.zeros(1)}
    assert normalize(state) == state


class Payload:
    """Pickles to a call that creates the file `mark`."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def with_payload(mark: Path) -> Any:
    return {"state_dict": {"g_a.0.weight": torch.zeros(3)}, "callback": Payload(mark)}


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_never_run(zipped: bool, tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "mark"
    torch.save(with_payload(mark), path, _use_new_zipfile_serialization=zipped)
    assert "refused" in _refusal(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the payload is a dud"


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_bare_pickle_is_never_run(protocol: int, tmp_path: Path) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "mark"
    path.write_bytes(pickle.dumps(with_payload(mark), protocol))
    _refusal(path)
    assert not mark.exists()


def test_a_harmless_object_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "args.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "args": Namespace(lmbda=0.01)}, path)
    assert "argparse.Namespace" in _refusal(path)


def _zipped(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


FILE = _zipped({"state_dict": {"g_a.0.weight": torch.arange(300.0)}})


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "damaged"),
        (b"not a checkpoint\n", "damaged"),
        (b"\x80\x02}", "damaged"),
        (FILE[: len(FILE) // 2], "damaged"),
        (FILE[:-20], "damaged"),
        (FILE[:5], "damaged"),
        (_zipped([torch.zeros(2)]), "no weights"),
        (_zipped({"epoch": 3, "state_dict": {}}), "no weights"),
        (_zipped({0: torch.zeros(2)}), "no weights"),
        (_zipped("state_dict"), "no weights"),
    ],
)
def test_what_is_no_checkpoint_is_named_with_its_fault(content: bytes, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "given.ckpt"
    path.write_bytes(content)
    assert fault in _refusal(path)


def test_damaged_safetensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_file({"w": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "damaged" in _refusal(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert "no such checkpoint" in _refusal(tmp_path / "missing.ckpt")
    assert "is a folder" in _refusal(tmp_path)


def test_a_file_that_holds_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "ouroboros.ckpt"
    content: dict[str, Any] = {}
    content["state_dict"] = content
    torch.save(content, path)
    assert "no weights" in _refusal(path)


@pytest.mark.fuzz
@pytest.mark.parametrize("zipped", [True, False])
def test_altered_bytes_give_tensors_or_one_line(zipped: bool, tmp_path: Path) -> None:
    file, path = io.BytesIO(), tmp_path / "altered.ckpt"
    torch.save(nn.Linear(3, 2).state_dict(), file, _use_new_zipfile_serialization=zipped)
    for seed in range(300):
        generator = random.Random(seed)
        content = bytearray(file.getvalue())
        for _ in range(3):
            content[generator.randrange(len(content))] = generator.randrange(256)
        path.write_bytes(content)
        try:
            assert all(isinstance(value, Tensor) for value in read_state_dict(path).values())
        except CodingError as error:
            assert "\n" not in str(error)  # noqa: PT017 (both outcomes are right)


def _refusal(path: Path) -> str:
    """The one line that says why `path` gives no weights."""
    with pytest.raises(CodingError) as caught:
        read_state_dict(path)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    assert len(line) < len(str(path)) + 200
    return line


def _assert_same(found: State, expected: State) -> None:
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
