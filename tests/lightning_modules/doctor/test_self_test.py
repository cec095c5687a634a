"""Every environment gives the integers of every other one, and the self-test sees it where one does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.doctor.environments import ENVIRONMENTS, Environment, environments
from lightning_modules.doctor.self_test import SelfTest, digest, run_environment
from lightning_modules.exact.export import export
from lightning_modules.exact.network import ExactNetwork
from lightning_modules.records import Integers

MODELS = sorted(PACKAGED.glob("demo-*.safetensors"))


def environment(name: str) -> Environment:
    return next(one for one in ENVIRONMENTS if one.name == name)


@pytest.fixture(scope="module")
def photos() -> list[Tensor]:
    from skimage import data

    astronaut, coffee = (torch.from_numpy(picture).permute(2, 0, 1) for picture in (data.astronaut(), data.coffee()))
    return [astronaut[:, :128, 100:300], coffee[:, 100:228, 200:400], coffee[:, 10:75, 20:60]]


@pytest.fixture(scope="module")
def quick(photos: list[Tensor], tmp_path_factory: pytest.TempPathFactory) -> SelfTest:
    return SelfTest([MODELS[-1]], photos, tmp_path_factory.mktemp("self_test"))


@pytest.mark.parametrize("name", ["batches of 8, 2 threads", "oneDNN for SSE4.1", "matrix products, int64"])
def test_another_process_in_another_environment_finds_the_same_integers(name: str, quick: SelfTest) -> None:
    result = quick.result(environment(name))
    assert result.fault is None
    assert (result.files, result.wrong, result.made, result.unreadable) == (3, 0, 2, 0)
    assert result.mismatches == 0
    assert sorted(result.digests) == sorted(quick.digests.values())
    assert result.largest <= 1
    assert result.pixels > result.differing


def test_an_integer_that_differs_is_counted(quick: SelfTest, monkeypatch: pytest.MonkeyPatch) -> None:
    off_by_one(monkeypatch, 1)
    folder = quick.folder / "altered"
    folder.mkdir()
    run_environment(environment("1 thread"), quick.folder, folder, quick.models)
    monkeypatch.undo()
    monkeypatch.setattr("lightning_modules.doctor.self_test.subprocess.run", lambda *a, **k: _Ended())
    renamed = Environment("altered")
    monkeypatch.setattr("lightning_modules.doctor.self_test.environments", lambda: (renamed,))
    result = quick.result(renamed)
    assert result.wrong == 3
    assert result.unreadable == 2
    assert result.mismatches == 5


def test_a_process_that_dies_is_a_fault_and_no_success(quick: SelfTest, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Environment(
        "broken", variables={"LATENTPRESS_NOTHING": "1", "PYTHONPATH": "", "PYTHONHOME": "/nonexistent"}
    )
    monkeypatch.setattr("lightning_modules.doctor.self_test.environments", lambda: (broken,))
    result = quick.result(broken)
    assert result.fault
    assert result.mismatches == 1


def test_the_digest_covers_names_values_and_order_of_each_array() -> None:
    base: Integers = {"y": np.arange(4, dtype=np.int32), "z": np.zeros(2, np.int32)}
    same: Integers = {"z": np.zeros(2, np.int64), "y": np.arange(4, dtype=np.int16)}
    assert digest(base) == digest(same)
    others: list[Integers] = [
        {"y": np.arange(4)[::-1], "z": np.zeros(2, np.int32)},
        {"x": np.arange(4), "z": np.zeros(2, np.int32)},
        {"y": np.arange(4), "z": np.zeros(2, np.int32), "mean": np.zeros(1, np.int32)},
    ]
    assert len({digest(one) for one in [base, *others]}) == 4


def test_environments_leave_the_process_as_it_was() -> None:
    before = (torch.get_num_threads(), torch.backends.mkldnn.enabled, torch.get_float32_matmul_precision())
    for one in ENVIRONMENTS:
        with one.entered():
            assert torch.get_num_threads() == one.threads
    assert (torch.get_num_threads(), torch.backends.mkldnn.enabled, torch.get_float32_matmul_precision()) == before
    assert len({one.name for one in environments()}) == len(environments()) >= 15


def test_environments_evaluate_networks_of_vectors_too() -> None:
    values = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    network = export(nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.01), nn.Linear(6, 3)), values, torch.tensor([8] * 3))
    expected = network(network.known_input())
    for name in ("channels last", "matrix products, float64", "matrix products, int64"):
        with environment(name).entered():
            assert torch.equal(network(network.known_input()), expected)


@pytest.mark.gpu
def test_a_gpu_finds_the_same_integers_and_makes_files_that_decode_here(quick: SelfTest) -> None:
    results = [quick.result(one) for one in environments() if one.device == "cuda"]
    assert [(result.fault, result.mismatches, result.files) for result in results] == [(None, 0, 3)] * 2


@pytest.mark.slow
def test_kodak_decodes_to_the_same_integers_in_every_environment(
    kodak: list[Path], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """All packaged models; SHA-256 over index, mean and latents of each picture, a process for each environment."""
    pictures = [torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1) for path in kodak]
    test = SelfTest(MODELS, pictures, tmp_path)
    results = [test.result(one) for one in environments()]
    ran = [result for result in results if result.fault is None]
    record_property("environments", len(ran))
    assert len(ran) >= 12, [result.fault for result in results]
    assert sum(result.mismatches for result in results) == 0
    assert all(sorted(result.digests) == sorted(test.digests.values()) for result in ran)
    assert all(result.files == 24 * len(MODELS) and result.largest <= 1 for result in ran)


def off_by_one(monkeypatch: pytest.MonkeyPatch, difference: int) -> None:
    """Exact networks that are not."""
    true = ExactNetwork.__call__
    monkeypatch.setattr(ExactNetwork, "__call__", lambda self, values: true(self, values) + difference)


class _Ended:
    returncode = 0
    stderr = ""
