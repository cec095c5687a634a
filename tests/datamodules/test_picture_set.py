"""CIFAR-10 and MNIST: real files are read, a resumed run continues their order, and faults are told."""

from __future__ import annotations

import gzip
import itertools
import pickle
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datamodules import cifar10, mnist
from datamodules.cifar10 import Cifar10
from datamodules.mnist import Mnist
from datamodules.picture_set import PictureSet
from lightning_modules.errors import CodingError
from lightning_modules.records import SourceImage

SETTINGS = {"batch_size": 3, "steps_per_epoch": 4, "num_workers": 0, "seed": 5}


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A data set of four pictures for training and two for the test, each of one value."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for split, values in (("train", (0, 127, 128, 255)), ("test", (40, 200))):
        pixels = np.stack([np.full((28, 28), value, dtype=np.uint8) for value in values])
        header = struct.pack(">IIII", mnist.MAGIC, *pixels.shape)
        (folder / mnist.FILES[split]).write_bytes(gzip.compress(header + pixels.tobytes()))
    return tmp_path


def test_a_batch_is_bytes_of_three_channels_and_depends_on_the_seed_and_its_number(digits: Path) -> None:
    batches = list(Mnist(root=digits, **SETTINGS).train_dataloader())
    assert [batch.shape for batch in batches] == [(3, 3, 28, 28)] * 4
    assert batches[0].dtype == torch.uint8
    again = list(Mnist(root=digits, **SETTINGS).train_dataloader())
    assert all(map(torch.equal, batches, again))
    other = list(Mnist(root=digits, **(SETTINGS | {"seed": 6})).train_dataloader())
    assert not all(map(torch.equal, batches, other))
    assert {int(value) for batch in batches for value in batch[:, 0, 0, 0]} == {0, 255}


def test_a_gray_picture_is_a_record_of_three_equal_channels_that_says_so(digits: Path) -> None:
    ((first,), (second,)) = Mnist(root=digits, **SETTINGS).test_dataloader()
    assert (first.name, second.name) == ("00000.png", "00001.png")
    assert first.x.shape == (1, 3, 28, 28)
    assert first.format.gray
    assert [float(record.x.mean()) for record in (first, second)] == [0.0, 1.0], "black below a half, white above"


def test_with_fewer_pictures_than_ranks_every_rank_validates_and_all_pictures_equally_often(digits: Path) -> None:
    brightness = []
    for rank in range(3):
        module = Mnist(root=digits, **SETTINGS)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=3)  # type: ignore[assignment]
        (loader,) = module.val_dataloader()
        brightness.append([float(record.x.mean()) for record in loader])
    assert all(brightness)
    assert sorted(itertools.chain(*brightness)) == [0.0, 0.0, 1.0, 1.0]


def test_limits_take_the_first_pictures(digits: Path) -> None:
    module = Mnist(root=digits, limit=1, val_limit=1, **SETTINGS)
    assert len(module.test_dataloader()) == 1
    (loader,) = module.val_dataloader()
    assert [record.name for record in loader] == ["00000.png"]


@pytest.mark.parametrize("eval_batch_size", [1, 2])
def test_equally_many_pictures_come_in_batches_of_at_once(digits: Path, eval_batch_size: int) -> None:
    batches = list(Mnist(root=digits, eval_batch_size=eval_batch_size, **SETTINGS).test_dataloader())
    assert [len(batch) for batch in batches] == [eval_batch_size] * (2 // eval_batch_size)


def test_the_real_cifar_10_is_read_in_its_order(shared: Path) -> None:
    module = Cifar10(root=shared / "data" / "cifar10", limit=2, **SETTINGS)
    module.prepare_data()  # nothing to fetch
    (first,), _ = module.test_dataloader()
    assert isinstance(first, SourceImage)
    assert first.x.shape == (1, 3, 32, 32)
    assert not first.format.gray
    corner = (first.x[0, :, 0, 0] * 255).round().int().tolist()
    assert corner == [158, 112, 49]  # the cat that test_batch begins with
    assert len(module.pictures("train")) >= 5 * 1017


def test_the_real_mnist_is_complete(shared: Path) -> None:
    module = Mnist(root=shared / "data" / "mnist", **SETTINGS)
    assert [len(module.pictures(split)) for split in ("train", "test")] == [60000, 10000]


def write_batch(folder: Path, content: object) -> Path:
    path = folder / cifar10.FOLDER / "test_batch"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=3))
    return path


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = write_batch(tmp_path, {"data": Path("evil")})
    with pytest.raises(CodingError, match=r"test_batch: not a batch of CIFAR-10 \(it names pathlib"):
        cifar10.read_batch(path)


@pytest.mark.parametrize(
    ("data", "fault"),
    [(np.zeros((2, 5), dtype=np.uint8), "reshape"), (np.zeros((1, 3072)), "float64"), (None, "not a batch")],
)
def test_a_batch_of_something_else_is_refused(tmp_path: Path, data: object, fault: str) -> None:
    with pytest.raises(CodingError, match=fault):
        cifar10.read_batch(write_batch(tmp_path, {"data": data}))


def test_a_cut_file_of_digits_is_refused(digits: Path) -> None:
    path = digits / mnist.FOLDER / mnist.FILES["test"]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    with pytest.raises(CodingError, match=r"t10k.*does not hold the images it declares; get it from https"):
        mnist.read_images(path)


@pytest.mark.parametrize("kind", [Cifar10, Mnist])
def test_a_set_that_is_not_there_is_fetched_and_the_line_says_from_where(
    kind: type[PictureSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str, sha256: str, path: Path) -> Path:
        raise CodingError(f"{url} {len(sha256)}")

    monkeypatch.setattr(cifar10, "fetch", unreachable)
    monkeypatch.setattr(mnist, "fetch", unreachable)
    with pytest.raises(CodingError, match=r"https://.*gz 64$"):
        kind(root=tmp_path, **SETTINGS).prepare_data()
