"""A card says what files say: of the model, of the run it lies in, of its tests; and it comes with the model itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from callbacks.complexity import count
from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.data_fingerprint import fingerprint
from lightning_modules.checkpoints.model_card import ModelCard, Subject
from lightning_modules.checkpoints.packaged_model import load_model, save_model
from lightning_modules.codec import Codec
from lightning_modules.coding.picture import model_fingerprint
from lightning_modules.errors import CodingError
from lightning_modules.hyperprior.codec import HyperpriorCodec
from tests.harness.command_line import succeed

HEAD = "name,status,height,width,bytes,bpp,bpp_estimated,psnr,ms_ssim,encode_seconds,decode_seconds,error,lmbda,loss"
TABLE = f"{HEAD}\na.png,ok,8,8,8,1.0,0.9,30.0,0.9,1,1,,0.01,2\nb.png,ok,8,8,24,3.0,2.7,20.0,0.7,1,1,,0.01,2\n"


def count_64(codec: Codec) -> dict[str, float] | None:
    return count(codec, 64, torch.device("cpu"))


@pytest.fixture(scope="module")
def codec() -> HyperpriorCodec:
    torch.manual_seed(0)
    codec = HyperpriorCodec(N=8, M=12, lmbda=0.01).eval()
    codec.update()
    return codec


@pytest.fixture
def run_folder(codec: HyperpriorCodec, tmp_path: Path) -> Path:
    """What a training leaves: its settings, its data, the results of its test, the model."""
    folder, data = tmp_path / "run", tmp_path / "pictures"
    (data / "sub").mkdir(parents=True)
    (data / "one.png").write_bytes(b"12345")
    (data / "sub" / "two.png").write_bytes(b"123")
    (data / ".hidden").write_bytes(b"1")
    save_model(codec, folder / "codec.safetensors")
    (folder / "provenance").mkdir()
    datamodule = {"train": ["pictures"], "val": None, "test": "pictures/one.png", "cache_dir": str(tmp_path)}
    config = {"name": "mine", "lmbda": 0.01, "seed": 7, "steps": 12, "datamodule": datamodule}
    OmegaConf.save({"overrides": ["experiment=hyperprior", "seed=7"], "config": config}, folder / "run.yaml")
    OmegaConf.save(config, folder / "provenance" / "config.yaml")
    (folder / "provenance" / "command.txt").write_text("python run.py experiment=hyperprior seed=7\n")
    (folder / "provenance" / "environment.json").write_text(json.dumps({"working_folder": str(tmp_path)}))
    (folder / "results.csv").write_text(TABLE)
    return folder


def write(subject: Subject, folder: Path, tests: list[Path] | None = None, licence: str | None = None) -> Any:
    model, data, text = ModelCard(count_64, licence).write(subject, tests or [], folder)
    facts = json.loads(data.read_text())
    assert model.name in text.read_text()
    return facts


def of_run(codec: Codec, run_folder: Path) -> Subject:
    path = run_folder / "codec.safetensors"
    return Subject(codec, str(path), path, "experiment=demo")


def test_the_identity_is_that_of_the_file_beside_the_card(
    codec: HyperpriorCodec, run_folder: Path, tmp_path: Path
) -> None:
    facts = write(of_run(codec, run_folder), tmp_path / "card")
    exported = tmp_path / "card" / "codec.safetensors"
    assert exported.read_bytes() == (run_folder / "codec.safetensors").read_bytes()
    assert facts["fingerprint"] == model_fingerprint(load_model(exported)).hex()
    assert facts["file"]["sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert facts["parameters"] == sum(parameter.numel() for parameter in codec.parameters())
    assert facts["hyperparameters"] == {"N": 8, "M": 12, "lmbda": 0.01}
    assert facts["what"].startswith("The mean-scale hyperprior as a codec")


def test_the_training_is_told_from_its_run_folder(codec: HyperpriorCodec, run_folder: Path, tmp_path: Path) -> None:
    training = write(of_run(codec, run_folder), tmp_path / "card")["training"]
    assert training["experiment"] == "hyperprior"
    assert training["settings"] == {"name": "mine", "lmbda": 0.01, "seed": 7, "steps": 12}
    assert training["command"] == "python run.py experiment=hyperprior seed=7"
    data = training["data"]
    lines = b"one.png 5\nsub/two.png 3\n"
    assert data["train"] == [{"root": "pictures", "files": 2, "bytes": 8, "sha256": hashlib.sha256(lines).hexdigest()}]
    assert [one["files"] for one in data["test"]] == [1]
    assert data.keys() == {"train", "test"}


def test_a_checkpoint_of_the_training_lies_in_its_run_too(
    codec: HyperpriorCodec, run_folder: Path, tmp_path: Path
) -> None:
    path = run_folder / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    torch.save({"state_dict": {f"codec.{n}": v for n, v in codec.state_dict().items()}}, path)
    facts = write(Subject(codec, str(path), path, "experiment=demo", ["recognised: a"]), tmp_path / "card")
    assert facts["training"]["experiment"] == "hyperprior"
    assert load_model(tmp_path / "card" / "codec.safetensors").hyperparameters == codec.hyperparameters
    assert "- recognised: a" in (tmp_path / "card" / "card.md").read_text()


def test_what_was_measured_is_the_mean_of_the_results(codec: HyperpriorCodec, run_folder: Path, tmp_path: Path) -> None:
    (row,) = write(of_run(codec, run_folder), tmp_path / "card")["measured"]
    means = row["means"]
    assert (means["bpp"], means["psnr"]) == (2.0, 25.0)
    assert means["ms_ssim"] == pytest.approx(0.8)
    assert (row["pictures"], row["failed"], row["data"]) == (2, 0, "pictures/one.png")
    assert "| `pictures/one.png` | 2 | 2.0000 |" in (tmp_path / "card" / "card.md").read_text()


def test_tests_of_the_same_model_are_further_rows_and_those_of_another_are_refused(
    codec: HyperpriorCodec, run_folder: Path, tmp_path: Path
) -> None:
    for name, ckpt in (("same", run_folder / "codec.safetensors"), ("other", tmp_path / "other.safetensors")):
        (tmp_path / name / "provenance").mkdir(parents=True)
        (tmp_path / name / "results.csv").write_text(TABLE)
        OmegaConf.save({"ckpt": str(ckpt)}, tmp_path / name / "provenance" / "config.yaml")
    subject = of_run(codec, run_folder)
    assert len(write(subject, tmp_path / "card", [tmp_path / "same"])["measured"]) == 2
    with pytest.raises(CodingError, match=r"other: has tested ckpt=.*other.safetensors, not "):
        write(subject, tmp_path / "refused", [tmp_path / "other"])
    assert not (tmp_path / "refused").exists()


def test_a_picture_that_comes_back_without_loss_is_no_number_in_json(
    codec: HyperpriorCodec, run_folder: Path, tmp_path: Path
) -> None:
    (run_folder / "results.csv").write_text(TABLE.replace("30.0", "inf"))
    (row,) = write(of_run(codec, run_folder), tmp_path / "card")["measured"]
    assert row["means"]["psnr"] is None
    assert "| lossless |" in (tmp_path / "card" / "card.md").read_text()


def test_the_complexity_is_the_runs_own_or_counted(codec: HyperpriorCodec, run_folder: Path, tmp_path: Path) -> None:
    subject = of_run(codec, run_folder)
    assert write(subject, tmp_path / "counted")["complexity"] == count_64(codec)
    (run_folder / "complexity.json").write_text('{"decoder_kmac_per_pixel": 1.5}')
    assert write(subject, tmp_path / "kept")["complexity"] == {"decoder_kmac_per_pixel": 1.5}


def test_the_licence_is_told_where_it_is_known(codec: HyperpriorCodec, run_folder: Path, tmp_path: Path) -> None:
    subject = of_run(codec, run_folder)
    assert write(subject, tmp_path / "ours")["licence"].startswith("MIT License, as latentpress")
    assert write(subject, tmp_path / "given", licence="CC0 1.0")["licence"] == "CC0 1.0"
    elsewhere = tmp_path / "elsewhere" / "model.safetensors"
    save_model(codec, elsewhere, {"made": "by hand"})
    facts = write(subject._replace(path=elsewhere), tmp_path / "theirs")
    assert facts["licence"].startswith("not stated")
    assert (facts["training"], facts["measured"], facts["notes"]) == (None, [], {"made": "by hand"})


def test_commands_name_the_experiment_that_made_the_model(
    codec: HyperpriorCodec, run_folder: Path, tmp_path: Path
) -> None:
    commands = write(of_run(codec, run_folder), tmp_path / "card")["commands"]
    assert commands["compress"].startswith(f"python run.py task=compress experiment=hyperprior ckpt={tmp_path}/card/")
    assert "experiment=" not in commands["decompress"]


def test_a_card_of_the_same_files_has_the_same_bytes(codec: HyperpriorCodec, run_folder: Path, tmp_path: Path) -> None:
    def contents() -> dict[str, bytes]:
        write(of_run(codec, run_folder), tmp_path / "card")
        return {path.name: path.read_bytes() for path in (tmp_path / "card").iterdir()}

    first = contents()
    assert first.keys() == {"codec.safetensors", "card.json", "card.md"}
    assert contents() == first


def test_a_card_can_lie_in_the_run_folder_itself(codec: HyperpriorCodec, run_folder: Path) -> None:
    before = (run_folder / "codec.safetensors").read_bytes()
    write(of_run(codec, run_folder), run_folder)
    assert (run_folder / "codec.safetensors").read_bytes() == before


def test_a_file_that_is_no_model_is_not_replaced(codec: HyperpriorCodec, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "codec.safetensors").write_text("mine")
    with pytest.raises(CodingError, match="no packaged model"):
        write(of_run(codec, run_folder), tmp_path / "card")
    assert (tmp_path / "card" / "codec.safetensors").read_text() == "mine"


def test_a_fingerprint_of_data_changes_with_names_and_sizes_and_with_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"345")
    first = fingerprint(tmp_path, "data")
    (tmp_path / "a").write_bytes(b"98")
    assert fingerprint(tmp_path, "data") == first
    (tmp_path / "a").rename(tmp_path / "c")
    renamed = fingerprint(tmp_path, "data")
    assert (renamed.files, renamed.bytes) == (2, 5)
    assert renamed.sha256 != first.sha256
    (tmp_path / "c").write_bytes(b"9")
    assert fingerprint(tmp_path, "data").sha256 != renamed.sha256


def test_the_command_line_writes_the_card_of_a_packaged_model_of_any_class(tmp_path: Path) -> None:
    """With the default experiment, which is of another class."""
    path = next(PACKAGED.glob("bits_back-*.safetensors"))
    told = succeed("task=card", f"ckpt={path}", f"output={tmp_path}/card", f"hydra.run.dir={tmp_path}/run")
    facts = json.loads((tmp_path / "card" / "card.json").read_text())
    assert f"{tmp_path}/card/card.md" in told
    assert facts["codec"] == "BitsBackCodec"
    assert " module=hyperprior_bb " in facts["commands"]["compress"]
    assert facts["licence"].startswith("MIT License")
