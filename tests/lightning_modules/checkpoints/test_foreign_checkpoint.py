"""Every layout is told by what the file holds, each tensor is accounted for, and what is unknown is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from compressai.models import JointAutoregressiveHierarchicalPriors, MeanScaleHyperprior, ScaleHyperprior
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from safetensors.torch import save_file
from torch import Tensor

from lightning_modules.capabilities import codes_weights_of
from lightning_modules.checkpoints.foreign_checkpoint import Recognised, recognise
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.checkpoints.state_dict import COMPRESSAI_TABLES
from lightning_modules.codec import Codec
from lightning_modules.coding.picture import model_fingerprint
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.hyperprior.scale_codec import ScaleHyperpriorCodec
from lightning_modules.launch.building import ComposedRun
from lightning_modules.launch.paths import CONF
from lightning_modules.tasks.models import codec_classes
from tests.harness.command_line import refuse, succeed
from tests.lightning_modules.sic.official_file import official_state
from tests.lightning_modules.sic.small_networks import small_networks

State = dict[str, Tensor]
SMALL = CONF / "shrink" / "tiny"
ROOMS = [path.stem for path in sorted(CONF.glob("module/*.yaml")) if (SMALL / path.name).exists()]


@pytest.fixture(scope="module", autouse=True)
def _configurations() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    HydraConfig.instance().cfg = None


@pytest.fixture(scope="module")
def classes() -> list[type[Codec]]:
    return codec_classes(ComposedRun(compose("config")))


@pytest.fixture(scope="module")
def state() -> State:
    """What CompressAI saves after building its tables."""
    torch.manual_seed(0)
    model = MeanScaleHyperprior(8, 12)
    model.update(force=True)
    return dict(model.state_dict())


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def of_lightning(state: State) -> dict[str, Any]:
    others = {"metric.total": torch.zeros(())}
    return {"pytorch-lightning_version": "2.6", "state_dict": prefixed("codec.", state) | others}


LAYOUTS: dict[str, tuple[Callable[[State], Any], str]] = {
    "CompressAI": (lambda state: state, "CompressAI's layers"),
    "training script": (lambda state: {"epoch": 7, "state_dict": state}, "weights under state_dict"),
    "DataParallel": (lambda state: prefixed("module.", state), "saved from DataParallel"),
    "DataParallel in a script": (lambda state: {"network": prefixed("module.", state)}, "saved from DataParallel"),
    "compiled": (lambda state: prefixed("_orig_mod.", state), "saved from a compiled model"),
    "Lightning": (of_lightning, "a checkpoint of Lightning"),
    "average": (lambda s: {"n_averaged": torch.tensor(3), **prefixed("module.", s)}, "a moving average of weights"),
}


def saved(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "checkpoint.pth.tar")
    return folder / "checkpoint.pth.tar"


@pytest.mark.parametrize(("wrap", "sign"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_layout_is_told_by_its_signs_and_every_tensor_is_accounted_for(
    wrap: Callable[[State], Any], sign: str, state: State, classes: list[type[Codec]], tmp_path: Path
) -> None:
    found = recognise(saved(wrap(state), tmp_path), classes, lmbda=0.02)
    assert type(found.codec) is HyperpriorCodec
    assert sign in " ".join(found.wrapping)
    tables = [name for name in state if name.rpartition(".")[2] in COMPRESSAI_TABLES]
    assert len(found.kept) + len(found.renamed) == len(state) - len(tables)
    assert found.rewritten == 0
    assert len([name for name in found.dropped if name.endswith(tuple(tables))]) == len(tables) > 0
    weight = found.codec.state_dict()["g_a.0.weight"]
    assert torch.equal(weight, state["g_a.0.weight"])


def test_the_lines_say_what_was_recognised_kept_renamed_and_dropped(
    state: State, classes: list[type[Codec]], tmp_path: Path
) -> None:
    lines = recognise(saved(of_lightning(state), tmp_path), classes, lmbda=0.02).lines()
    assert lines[0].startswith("recognised: HyperpriorCodec (N=8, M=12, lmbda=0.02), ")
    assert [line.partition(":")[0] for line in lines] == ["recognised", "lmbda", "kept", "renamed", "dropped"]
    assert lines[3].endswith(" without codec.")
    assert "coding tables, which are made anew" in lines[4]
    assert lines[4].endswith("1 of metric.*")


def test_older_names_of_compressai_are_told_with_todays(
    state: State, classes: list[type[Codec]], tmp_path: Path
) -> None:
    old = {name.replace("matrices.", "_matrix") if "matrices." in name else name: v for name, v in state.items()}
    found = recognise(saved(old, tmp_path), classes, lmbda=0.02)
    assert found.renamed["entropy_bottleneck._matrix0"] == "entropy_bottleneck.matrices.0"
    assert "entropy_bottleneck._matrix0 to entropy_bottleneck.matrices.0" in found.lines()[3]


def test_safetensors_of_others_are_recognised(state: State, classes: list[type[Codec]], tmp_path: Path) -> None:
    save_file({name: value.clone() for name, value in state.items()}, tmp_path / "others.safetensors")
    assert type(recognise(tmp_path / "others.safetensors", classes, lmbda=0.02).codec) is HyperpriorCodec


def test_a_hyperprior_of_scales_alone_is_another_codec(classes: list[type[Codec]], tmp_path: Path) -> None:
    found = recognise(saved(ScaleHyperprior(8, 12).state_dict(), tmp_path), classes, lmbda=0.02)
    assert type(found.codec) is ScaleHyperpriorCodec


def test_a_file_of_sics_authors_is_recognised_without_being_told(classes: list[type[Codec]], tmp_path: Path) -> None:
    networks = small_networks()
    found = recognise(saved(official_state(networks), tmp_path), classes, lmbda=0.02)
    assert type(found.codec).__name__ == "SicCodec"
    assert "a file of the format sic" in found.wrapping
    assert any(name.startswith("module.lpips.") for name in found.dropped)
    assert len(found.kept) + len(found.renamed) + len(found.dropped) == len(official_state(networks))


@pytest.mark.parametrize("room", ROOMS)
def test_weights_of_every_room_are_recognised_as_its_own(room: str, classes: list[type[Codec]], tmp_path: Path) -> None:
    cfg = compose("config", [f"module={room}", "debug=tiny", "~experiment"])
    codec: Codec = ComposedRun(cfg).build(cfg.module.codec)
    found = recognise(saved({"state_dict": prefixed("codec.", codec.state_dict())}, tmp_path), classes, lmbda=0.02)
    assert type(found.codec) is (codes_weights_of(type(codec)) or type(codec))


def test_what_is_packaged_is_the_codec_that_was_recognised(
    state: State, classes: list[type[Codec]], tmp_path: Path
) -> None:
    found = recognise(saved(state, tmp_path), classes, lmbda=0.02)
    found.package(tmp_path / "model.safetensors")
    found.package(tmp_path / "model.safetensors")
    assert model_fingerprint(load_model(tmp_path / "model.safetensors")) == model_fingerprint(found.codec)
    with pytest.raises(CodingError, match="is a packaged model already"):
        recognise(tmp_path / "model.safetensors", classes, lmbda=0.02)


def test_nothing_but_a_model_is_replaced(state: State, classes: list[type[Codec]], tmp_path: Path) -> None:
    found: Recognised = recognise(saved(state, tmp_path), classes, lmbda=0.02)
    (tmp_path / "notes.safetensors").write_text("mine")
    for name, fault in (("model.pth", "is a .safetensors file"), ("notes.safetensors", "no packaged model")):
        with pytest.raises(CodingError, match=fault):
            found.package(tmp_path / name)
    assert (tmp_path / "notes.safetensors").read_text() == "mine"


def test_what_is_unknown_is_refused_with_its_first_names(classes: list[type[Codec]], tmp_path: Path) -> None:
    model = JointAutoregressiveHierarchicalPriors(8, 12)
    with pytest.raises(CodingError, match=r"not recognised: its first tensors are .*, \.\.\.; known are .*Hyperprior"):
        recognise(saved(model.state_dict(), tmp_path), classes, lmbda=0.02)
    with pytest.raises(CodingError, match=r"its first tensors are a, b; known"):
        recognise(saved({"a": torch.zeros(1), "b": torch.ones(2)}, tmp_path), classes, lmbda=0.02)
    with pytest.raises(CodingError, match="it holds no tensors"):
        recognise(saved({"epoch": 3}, tmp_path), classes, lmbda=0.02)


class Payload:
    """Pickles to a call that creates a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_code_in_a_checkpoint_is_refused_and_never_run(
    state: State, classes: list[type[Codec]], tmp_path: Path
) -> None:
    path = saved({"state_dict": state, "callback": Payload(tmp_path / "mark")}, tmp_path)
    with pytest.raises(CodingError, match="refused, reading it would run code"):
        recognise(path, classes, lmbda=0.02)
    assert not (tmp_path / "mark").exists()


def test_weights_that_are_not_finite_are_refused(state: State, classes: list[type[Codec]], tmp_path: Path) -> None:
    with pytest.raises(CodingError, match=r"g_a.0.weight is not finite"):
        recognise(saved(state | {"g_a.0.weight": state["g_a.0.weight"] / 0}, tmp_path), classes, lmbda=0.02)


def test_a_file_that_is_none_is_one_line(classes: list[type[Codec]], tmp_path: Path) -> None:
    (tmp_path / "empty.ckpt").touch()
    for name, fault in (("empty.ckpt", "damaged"), ("missing.ckpt", "no such checkpoint"), (".", "is a folder")):
        with pytest.raises(CodingError, match=fault):
            recognise(tmp_path / name, classes, lmbda=0.02)


@pytest.mark.slow
def test_the_command_line_imports_and_refuses(state: State, tmp_path: Path) -> None:
    path, model = saved(of_lightning(state), tmp_path), tmp_path / "model.safetensors"
    told = succeed("task=import", f"ckpt={path}", f"output={model}", "lmbda=0.02")
    assert "recognised: HyperpriorCodec (N=8, M=12, lmbda=0.02)" in told
    assert load_model(model).hyperparameters["lmbda"] == 0.02
    assert "is a packaged model already" in refuse("task=import", f"ckpt={model}", f"output={model}")
