"""What the processes of a sweep's job read is what was composed, value by value, however often they read it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from lightning_modules.sweeps.frozen_config import freeze, is_done, key_of, read
from lightning_modules.sweeps.record import UNFINISHED, SweepJob

VALUES = {
    "number": 1e-05,
    "text": "1e-05",
    "shard": "0/8",
    "word": "null",
    "flag": "on",
    "nothing": None,
    "path": "/data/it's 5 % {off}/$HOME, a: b",
    "list": [1, "2", [0.25]],
    "table": {0.001: 192, "a.b": "c"},
}


@pytest.fixture(autouse=True)
def _ticks() -> Iterator[None]:
    """A resolver whose value is another one each time: a clock."""
    count = itertools.count()
    OmegaConf.register_new_resolver("tick", lambda: next(count), replace=True)
    yield
    OmegaConf.clear_resolver("tick")


def frozen(config: DictConfig, folder: Path) -> DictConfig:
    freeze(config, {"job": {"num": 3}}, folder)
    return read(folder).config


def test_every_value_comes_back_as_it_was(tmp_path: Path) -> None:
    assert OmegaConf.to_container(frozen(OmegaConf.create(VALUES), tmp_path)) == VALUES


def test_what_is_computed_becomes_a_value_and_references_stay_references(tmp_path: Path) -> None:
    config = OmegaConf.create(
        {
            "time": "${tick:}",
            "name": "run_${tick:}_${shape.width}",
            "shape": {"width": 5, "twice": "${.width}"},
            "alias": "${shape}",
            "chosen": "${oc.select:shape,{}}",
            "folder": "${hydra:runtime.output_dir}",
            "places": [{"time": "${time}"}, "${tick:}"],
        }
    )
    text = OmegaConf.to_container(frozen(config, tmp_path))
    assert text["shape"]["twice"] == "${.width}"  # type: ignore[index,call-overload]
    assert [text[key] for key in ("alias", "folder")] == ["${shape}", "${hydra:runtime.output_dir}"]  # type: ignore[index,call-overload]
    assert text["chosen"] == {"width": 5, "twice": 5}  # type: ignore[index,call-overload]
    assert "tick" not in str(text)
    first, second = read(tmp_path).config, read(tmp_path).config
    assert first.time == second.time == first.places[0].time
    first.shape.width = 7
    assert (first.shape.twice, first.alias.width) == (7, 7), "a task may still fill in values"


def test_freezing_an_equal_configuration_again_keeps_its_values_and_another_one_does_not(tmp_path: Path) -> None:
    config = OmegaConf.create({"time": "${tick:}", "lmbda": 0.01})
    before = frozen(config, tmp_path).time
    assert frozen(config, tmp_path).time == before
    config.lmbda = 0.02
    assert frozen(config, tmp_path).time > before


def test_a_training_that_has_left_a_checkpoint_goes_on_from_it_unless_its_settings_have_changed(tmp_path: Path) -> None:
    config = OmegaConf.create({"resume": None, "lmbda": 0.01})
    assert frozen(config, tmp_path).resume is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert frozen(config, tmp_path).resume == str(tmp_path)
    assert read(tmp_path).key == key_of(config), "going on is no other setting"
    config.lmbda = 0.02
    assert frozen(config, tmp_path).resume is None


def test_a_job_is_done_when_its_record_says_so_of_the_configuration_that_is_frozen_there(tmp_path: Path) -> None:
    config = OmegaConf.create({"lmbda": 0.01})
    frozen(config, tmp_path)
    assert not is_done(tmp_path)
    for error, key, done in ((UNFINISHED, key_of(config), False), (None, "other", False), (None, key_of(config), True)):
        SweepJob(0, "test", [], error, key).write(tmp_path)
        assert is_done(tmp_path) == done


def test_what_a_resolver_raises_is_raised_when_it_is_frozen(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="NOT_SET"):
        freeze(OmegaConf.create({"a": {"b": "${oc.env:NOT_SET}"}}), {}, tmp_path)
    assert not list(tmp_path.iterdir())
