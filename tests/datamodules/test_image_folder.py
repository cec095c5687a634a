"""A folder of pictures: crops to train on, whole pictures to evaluate and to code."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.file_listing import NamedFile
from datamodules.image_folder import ImageFolder, decode_pixels, fill_cache
from lightning_modules.errors import CodingError
from lightning_modules.records import Failure, SourceImage


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five flat pictures, the red of each its number, one of them smaller than a crop; and a file of text."""
    root = tmp_path / "pictures"
    (root / "sub").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(root / f"p{number}.png")
    Image.new("RGB", (3, 5), (4, 0, 0)).save(root / "sub" / "p4.png")
    (root / "bad.png").write_text("no picture")
    return root


def folder(root: Path | None = None, **settings: Any) -> ImageFolder:
    """An `ImageFolder` with small numbers."""
    defaults: dict[str, Any] = {"train": None, "val": None, "test": None, "input": None, "crop": 8}
    defaults |= {"batch_size": 4, "steps_per_epoch": 6, "num_workers": 0, "seed": 3}
    defaults |= {"cache_dir": (root or Path()).parent / "cache"}
    return ImageFolder(**{**defaults, **settings})


def each(batches: Iterable[list[SourceImage | Failure]]) -> list[SourceImage | Failure]:
    return [record for batch in batches for record in batch]


def on_rank(module: ImageFolder, rank: int, world_size: int) -> ImageFolder:
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, global_step=0, accumulate_grad_batches=1)  # type: ignore[assignment]
    return module


def test_training_crops_come_from_every_readable_picture_and_the_bad_one_is_named(pictures: Path) -> None:
    module = folder(pictures, train=[pictures], steps_per_epoch=100)
    with pytest.warns(UserWarning, match=r"left out of training: bad\.png"):
        loader = module.train_dataloader()
    batches = list(loader)
    assert len(batches) == 100
    assert batches[0].shape == (4, 3, 8, 8)
    assert batches[0].dtype == torch.uint8
    reds = torch.cat(batches)[:, 0]
    assert torch.equal(reds.amin((1, 2)), reds.amax((1, 2)))  # no crop crosses pictures, small ones are padded
    assert set(reds[:, 0, 0].tolist()) == {0, 1, 2, 3, 4}


def test_ranks_train_on_the_crops_of_one_process_dealt_out(pictures: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = torch.cat(list(folder(pictures, train=pictures, batch_size=8).train_dataloader()))
        ranks = [on_rank(folder(pictures, train=pictures), rank, 2).train_dataloader() for rank in range(2)]
    dealt = [torch.cat(list(loader)) for loader in ranks]
    assert torch.equal(alone[0::2], dealt[0])
    assert torch.equal(alone[1::2], dealt[1])


def test_with_fewer_pictures_than_ranks_every_rank_validates_and_all_pictures_equally_often(tmp_path: Path) -> None:
    """Lightning passes over the validation of a rank without pictures, and the others wait for it."""
    for name in "abc":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    shares = []
    for rank in range(5):
        (loader,) = on_rank(folder(tmp_path, val=tmp_path), rank, 5).val_dataloader()
        shares.append([record.name for record in loader])
    assert all(shares)
    assert Counter(itertools.chain(*shares)) == {"a.png": 2, "b.png": 2, "c.png": 2}


def test_a_second_run_reads_the_cache_and_not_the_pictures(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [pictures / "p1.png", pictures / "p2.png"]
    assert fill_cache(paths, tmp_path / "cache") == set()

    def never(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("datamodules.image_folder.decode_pixels", never)
    assert fill_cache(paths, tmp_path / "cache") == set()


def test_a_folder_of_nothing_but_bad_pictures_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(CodingError, match="none of its pictures"),
    ):
        folder(tmp_path, train=[tmp_path]).train_dataloader()


def test_a_cache_that_cannot_be_written_is_one_line(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    with pytest.raises(CodingError, match=r"paths\.cache_dir="):
        fill_cache([pictures / "p1.png"], tmp_path / "occupied" / "cache")


def test_pixels_to_train_on_are_those_that_are_coded(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(decode_pixels(tmp_path / "a.png"), pixels[..., :3])


def test_evaluation_sees_whole_pictures_in_order_with_names(pictures: Path) -> None:
    records = each(folder(test=pictures).test_dataloader())
    assert [record.name for record in records] == [
        "bad.png",
        "p0.png",
        "p1.png",
        "p2.png",
        "p3.png",
        "sub/p4.png",
    ]
    assert isinstance(records[0], Failure)
    assert all(isinstance(record, SourceImage) for record in records[1:])
    last = records[-1]
    assert isinstance(last, SourceImage)
    assert last.x.shape == (1, 3, 5, 3)


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_evaluate_every_picture_once(pictures: Path, world_size: int) -> None:
    ranks = [on_rank(folder(test=pictures), rank, world_size) for rank in range(world_size)]
    names = [record.name for rank in ranks for record in each(rank.test_dataloader())]
    assert sorted(names) == sorted(record.name for record in each(folder(test=pictures).test_dataloader()))


def test_test_falls_back_to_val_and_no_val_is_no_validation(pictures: Path) -> None:
    assert len(folder(val=pictures).test_dataloader()) == 6
    assert len(folder(val=pictures, test=pictures / "p0.png").test_dataloader()) == 1
    assert folder().val_dataloader() == []


def test_a_limit_keeps_the_first_pictures_of_every_use_but_training(pictures: Path) -> None:
    whole, limited = (folder(pictures, test=pictures, input=pictures, limit=limit) for limit in (None, 2))
    names = [record.name for record in each(whole.test_dataloader())]
    assert [record.name for record in each(limited.test_dataloader())] == names[:2]
    assert [record.name for record in each(limited.predict_dataloader())] == names[:2]
    assert len(limited.predict_dataloader()) == 2


def test_evaluation_and_coding_take_as_many_at_once_as_asked(pictures: Path) -> None:
    module = folder(test=pictures, input=pictures, eval_batch_size=4)
    for batches in (list(module.test_dataloader()), list(module.predict_dataloader())):
        assert [len(batch) for batch in batches] == [4, 2]
        assert [record.name for record in each(batches)] == [record.name for record in each(module.test_dataloader())]
    with pytest.raises(CodingError, match="eval_batch_size=0: at least one"):
        folder(eval_batch_size=0)


def test_coding_takes_the_files_its_queue_hands_out(pictures: Path) -> None:
    class LastFirst:
        def pending(self, items: Sequence[NamedFile]) -> Iterator[NamedFile]:
            yield from reversed(items[1:])

    everything = [record.name for record in each(folder(input=pictures).predict_dataloader())]
    assert everything == ["bad.png", "p0.png", "p1.png", "p2.png", "p3.png", "sub/p4.png"]
    queued = [record.name for record in each(folder(input=pictures, job=LastFirst()).predict_dataloader())]
    assert queued == everything[:0:-1]


def test_one_file_is_an_input_under_its_own_name(pictures: Path) -> None:
    (record,) = each(folder(input=pictures / "sub" / "p4.png").predict_dataloader())
    assert isinstance(record, SourceImage)
    assert record.name == "p4.png"


def test_equal_names_in_two_input_folders_are_refused(pictures: Path) -> None:
    with pytest.raises(CodingError, match=r"p4\.png: in two of the input folders"):
        folder(input=[pictures, pictures / "sub" / "p4.png", pictures / "sub"]).predict_dataloader()


@pytest.mark.parametrize(
    ("settings", "loader", "remedy"),
    [
        ({}, "train_dataloader", "give a folder or a file with datamodule.train="),
        ({}, "test_dataloader", "give a folder or a file with datamodule.test="),
        ({}, "predict_dataloader", "give a folder or a file with input="),
        ({"val": "no/such"}, "val_dataloader", "give a folder or a file with datamodule.val="),
        ({"train": ["no/such"]}, "train_dataloader", "give a folder or a file with datamodule.train="),
    ],
)
def test_missing_pictures_are_one_line_with_the_setting(settings: dict[str, Any], loader: str, remedy: str) -> None:
    with pytest.raises(CodingError) as caught:
        getattr(folder(**settings), loader)()
    assert str(caught.value).endswith(remedy)
    assert "\n" not in str(caught.value)


class Observer(L.LightningModule):
    """Trains nothing and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[torch.Tensor] = []
        self.seen: list[str] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.trained.append(batch)
        return self.weight * batch.float().mean()

    def validation_step(self, batch: SourceImage | Failure, batch_idx: int) -> None:
        self.seen.append(batch.name)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightning_trains_epoch_after_epoch_on_new_crops_and_validates_on_records(pictures: Path) -> None:
    settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings |= {"enable_model_summary": False, "use_distributed_sampler": False, "accelerator": "cpu"}
    observer = Observer()
    data = folder(pictures, train=pictures, val=pictures, steps_per_epoch=2)
    L.Trainer(max_epochs=2, num_sanity_val_steps=0, **settings).fit(observer, datamodule=data)
    expected = [data.train_dataloader().dataset[k] for k in range(16)]
    assert torch.equal(torch.cat(observer.trained), torch.stack(expected))
    assert observer.seen == [*["bad.png", "p0.png", "p1.png", "p2.png", "p3.png", "sub/p4.png"] * 2]
