"""A slip in the name of a setting is one line with the setting that was meant, at every depth, also behind a `+`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from lightning_modules.errors import UserError
from lightning_modules.launch.errors import explain
from lightning_modules.launch.mistyped import refuse_mistyped_additions
from lightning_modules.launch.paths import CONF

Command = Callable[..., None]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Composes the words of a command line."""

    def composed(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose("config", [word for word in words if not word.startswith("-")])

    return composed


@pytest.mark.parametrize(
    ("words", "key", "meant"),
    [
        (["lmda=0.01"], "lmda", "lmbda"),
        (["infernce=sga"], "infernce", "inference"),
        (["exeriment=sga"], "exeriment", "experiment"),
        (["trainer.devics=2"], "trainer.devics", "trainer.devices"),
        (["traner.devics=2"], "traner.devics", "trainer.devices"),
        (["data_dir=data"], "data_dir", "paths.data_dir"),
        (["logger=wandb", "logger.wandb.offlne=true"], "logger.wandb.offlne", "logger.wandb.offline"),
        (["inference=sga_ssl", "inference.method.rul.a=3"], "inference.method.rul.a", "inference.method.rule.a"),
        (["hydra/launchr=joblib"], "hydra/launchr", "hydra/launcher"),
        (["~lger"], "lger", "logger"),
        (["sic.levl=2"], "sic.levl", "sic.level"),
    ],
)
def test_a_setting_that_is_not_there_is_told_with_the_one_that_is(
    words: list[str], key: str, meant: str, command: Command
) -> None:
    with pytest.raises(Exception, match="Could not") as caught:
        command(*words)
    assert explain(caught.value) == (
        f"no setting named {key}, did you mean {meant}?; python run.py --cfg job lists them all"
    )


def test_two_slips_are_told_one_after_the_other(command: Command) -> None:
    with pytest.raises(Exception, match="Could not") as caught:
        command("lmda=1", "trainer.devics=2")
    assert str(explain(caught.value)).startswith("no setting named lmda, did you mean lmbda?")


def test_what_is_near_nothing_is_told_alone(command: Command) -> None:
    with pytest.raises(Exception, match="Could not") as caught:
        command("zzz=1")
    assert explain(caught.value) == "no setting named zzz; python run.py --cfg job lists them all"


def refused(*additions: str) -> str | None:
    """The line that refuses these words, as a task begins."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [*additions])
    try:
        refuse_mistyped_additions(cfg, additions, [CONF])
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("addition", "key", "meant"),
    [
        ("+trainer.devics=2", "trainer.devics", "trainer.devices"),
        ("+trainer.limit_val_batch=2", "trainer.limit_val_batch", "trainer.limit_val_batches"),
        ("+trainr.devices=2", "trainr.devices", "trainer.devices"),
        ("+lmda=0.1", "lmda", "lmbda"),
        ("+experimnt=sga", "experimnt", "experiment"),
        ("+paths.cachedir=here", "paths.cachedir", "paths.cache_dir"),
    ],
)
def test_an_addition_that_nothing_reads_is_refused(addition: str, key: str, meant: str) -> None:
    line = refused(addition)
    assert line is not None
    assert line.startswith(f"no setting named {key}, did you mean {meant}")


def test_a_setting_that_a_class_does_not_take_is_refused_also_without_a_near_one() -> None:
    assert refused("+trainer.qqq=2") == "no setting named trainer.qqq; python run.py --cfg job lists them all"


@pytest.mark.parametrize(
    "addition",
    [
        "+trainer.limit_val_batches=2",  # taken, though near one that is there
        "+trainer.max_time=00:10:00:00",
        "+metrics.mine={_target_: mylab.mine}",
        "+mine=3",
        "+mine.deep.value=3",
        "++trainer.devices=2",
        "lmbda=0.1",
    ],
)
def test_an_addition_that_is_read_or_like_nothing_passes(addition: str) -> None:
    assert refused(addition) is None


def test_groups_that_one_system_uses_stand_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_modules.launch import groups

    files = {
        "module/a": "# A model.",
        "widths/small": "# Only for lab: few channels.",
        "widths/large": "# Only for lab: many.",
        "mixed/one": "# Only for lab: one.",
        "mixed/two": "# Another.",
        "hydra/default": "# Not of ours.",
    }
    for name, text in files.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(groups, "folders_of_command", lambda: [tmp_path])
    lines = groups.list_of_groups().splitlines()
    assert lines == ["mixed: one, two", "module: a", "Only for lab:", "  widths: large, small"]
