"""What the doctor says: every model found, every version, and no mismatch hidden."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from datamodules.sample import sample_images
from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.packaged_model import save_model
from lightning_modules.doctor.environments import ENVIRONMENTS
from lightning_modules.doctor.examination import CROPS, crops, devices, mismatch_table, versions, weights
from lightning_modules.doctor.self_test import Result
from lightning_modules.hyperprior.codec import HyperpriorCodec


def text(table: Table, capsys: pytest.CaptureFixture[str]) -> str:
    Console(width=200).print(table)
    return capsys.readouterr().out


def test_a_model_that_does_not_load_is_named_with_its_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = sorted(PACKAGED.glob("demo-*.safetensors"))[0]
    shutil.copy(model, tmp_path / "good.safetensors")
    damaged = bytearray(model.read_bytes())
    damaged[-1000] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(damaged)
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    # One fingerprint, two files: the folder's index keeps the last in the alphabet, so each is looked at alone.
    assert "known answer right" in text(weights([tmp_path]), capsys)
    (tmp_path / "good.safetensors").unlink()
    assert "damaged" in text(weights([tmp_path]), capsys)


def test_what_a_fault_says_in_brackets_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = type("Codec", (HyperpriorCodec,), {"__module__": "stranger.codec"})
    save_model(stranger(N=4, M=6, lmbda=0.01), tmp_path / "model[1].safetensors")
    said = text(weights([tmp_path]), capsys)
    assert "trust=[stranger]" in said
    assert "model[1].safetensors" in said


def test_versions_and_devices_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    said = text(versions(), capsys)
    assert all(name in said for name in ("torch", "constriction", "Python"))
    assert "missing" not in said
    assert "cores" in text(devices(), capsys)


def test_mismatches_stand_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    results = [
        Result(ENVIRONMENTS[0], files=24, made=6, pixels=10**6, differing=31, largest=1),
        Result(ENVIRONMENTS[1], files=24, wrong=7, made=6, unreadable=2),
        Result(ENVIRONMENTS[2], fault="no such device"),
    ]
    said = text(mismatch_table(results), capsys)
    assert "0 of 24" in said
    assert "7 of 24" in said
    assert "2 of 6" in said
    assert "31.0 in a million, by 1" in said
    assert "could not run (no such device)" in said
    assert [result.mismatches for result in results] == [0, 9, 1]


def test_what_not_every_machine_has_may_be_missing() -> None:
    optional = next(one for one in ENVIRONMENTS if one.optional)
    assert Result(optional, fault="no compiler").mismatches == 0
    assert Result(optional, files=1, wrong=1).mismatches == 1


def test_the_pieces_of_photographs_have_one_size_and_differ() -> None:
    pieces = list(crops(sample_images()))
    assert len(pieces) == CROPS
    assert {tuple(piece.shape) for piece in pieces} == {(3, 192, 256)}
    assert len({piece.numpy().tobytes() for piece in pieces}) == CROPS
