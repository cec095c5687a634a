"""The command line as a user meets it: every promise of the tasks, each in processes of its own."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.harness.command_line import (
    COMPRESS,
    DECOMPRESS,
    kill_after_an_epoch,
    refusal,
    refuse,
    report,
    run,
    second_rank,
    start,
    succeed,
)

TINY = ("experiment=hyperprior", "debug=tiny")


def crop_of(path: Path, target: Path, size: tuple[int, int]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.open(path).convert("RGB").crop((100, 100, 100 + size[1], 100 + size[0])).save(target, icc_profile=None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was left alone: twelve steps, three epochs."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    succeed(*TINY, f"hydra.run.dir={folder}")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small pictures of several sizes, nested, two of one stem, one of them a single pixel."""
    import skimage

    source = Path(skimage.__file__).parent / "data"
    folder = tmp_path_factory.mktemp("photos")
    for name, size in (("a.png", (96, 160)), ("b/a.png", (65, 127)), ("b/c.png", (3, 70)), ("d.png", (200, 120))):
        crop_of(source / "astronaut.png", folder / name, size)
    crop_of(source / "coffee.png", folder / "a.jpg", (64, 64))
    Image.new("RGB", (1, 1), (200, 30, 90)).save(folder / "pixel.png")
    return folder


@pytest.fixture(scope="module")
def compressed(trained: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "files"
    succeed(*COMPRESS, f"ckpt={trained / 'codec.safetensors'}", f"input={photos}", f"output={output}")
    return output


# ---- errors


def test_an_unknown_experiment_is_one_line_with_the_nearest_name() -> None:
    assert "did you mean hyperprior or hyperprior_bb?" in refuse("experiment=hyperprio")


def test_an_unknown_setting_is_one_line_with_the_nearest_name() -> None:
    assert "did you mean lmbda?" in refuse("lmda=0.01")
    assert refuse("lmbda=-1").startswith("error: -1 is below 0, the least value")
    assert "lmbda=-1.0: the weight of the distortion" in refuse("lmbda=-1.0", "debug=tiny")


def test_a_value_that_an_object_refuses_is_one_line_with_its_place(photos: Path, tmp_path: Path) -> None:
    model = ("task=compress", "experiment=rec_lossless_small", "ckpt=demo", f"input={photos}", f"output={tmp_path}")
    line = refuse(*model, "coder.kl_per_variable=-1")
    assert line.startswith("error: module.coder: variables need KL above 0")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("input=IN", "output=OUT"), ["needs ckpt="]),
        (("ckpt=demo",), ["needs input=", "output="]),
        (("ckpt=none.ckpt", "input=IN", "output=OUT"), ["none.ckpt", "no such checkpoint"]),
        (("ckpt=OTHER", "input=IN", "output=OUT"), ["other.pth", "not a mean-scale hyperprior"]),
        (("ckpt=GOOD", "input=EMPTY", "output=OUT"), ["empty", "no image"]),
        (("ckpt=GOOD", "input=MISSING", "output=OUT"), ["missing"]),
        (("ckpt=GOOD", "input=IN", "output=FILE"), ["cannot be written"]),
    ],
)
def test_bad_input_is_one_line_that_names_it(
    arguments: tuple[str, ...], words: list[str], trained: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
    places = {
        "IN": photos,
        "OUT": tmp_path / "out",
        "OTHER": tmp_path / "other.pth",
        "GOOD": trained / "codec.safetensors",
        "EMPTY": tmp_path / "empty",
        "MISSING": tmp_path / "missing",
        "FILE": tmp_path / "file" / "out",
    }
    keys = [argument.partition("=") for argument in arguments]
    line = refuse(*COMPRESS, *(f"{key}={places.get(value, value)}" for key, _, value in keys))
    for word in words:
        assert word in line


# ---- training


def test_a_training_leaves_model_results_pictures_and_provenance(trained: Path) -> None:
    for name in ("codec.safetensors", "results.csv", "run.yaml", "provenance/config.yaml", "checkpoints/last.ckpt"):
        assert (trained / name).stat().st_size > 0, name
    assert list((trained / "pictures").rglob("*.png"))
    with (trained / "results.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok"] * 5


def test_a_training_shorter_than_an_epoch_is_validated_and_leaves_a_model(tmp_path: Path) -> None:
    succeed(*TINY, "steps=2", "trainer.precision=bf16-mixed", f"hydra.run.dir={tmp_path}")
    assert (tmp_path / "codec.safetensors").stat().st_size > 0
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2


@pytest.mark.faults
def test_a_killed_training_resumes_to_the_weights_of_an_unbroken_one(trained: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    kill_after_an_epoch(*TINY, run_folder=broken)
    succeed(f"resume={broken}")
    assert (broken / "codec.safetensors").read_bytes() == (trained / "codec.safetensors").read_bytes()
    states = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (trained, broken)]
    assert states[0]["global_step"] == states[1]["global_step"] == 12
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name]), name


def test_jobs_of_two_processes_are_done_once_each_with_one_folder_and_one_wandb_run_in_one_group(
    tmp_path: Path,
) -> None:
    jobs = ("trainer=ddp_cpu", "logger=wandb", "lmbda=0.001,0.01")
    printed = succeed("-m", *TINY, *jobs, f"hydra.sweep.dir={tmp_path}")
    assert printed.count("model: ") == 2
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == ["0_lmbda-0.001", "1_lmbda-0.01"]
    assert all((folder / "codec.safetensors").exists() for folder in folders)
    runs = [path for folder in folders for path in folder.rglob("run-*.wandb")]
    assert [path.relative_to(tmp_path).parts[0] for path in runs] == [folder.name for folder in folders]
    assert runs[0].name != runs[1].name
    assert all(tmp_path.name.encode() in path.read_bytes() for path in runs)
    command = (folders[1] / "provenance" / "command.txt").read_text()
    assert command.endswith("run.py experiment=hyperprior debug=tiny trainer=ddp_cpu logger=wandb lmbda=0.01\n")


# ---- folders


def test_every_picture_becomes_a_file_whose_length_is_reported(compressed: Path, photos: Path) -> None:
    rows = report(compressed)
    assert list(rows) == ["a.jpg", "a.png", "b/a.png", "b/c.png", "d.png", "pixel.png"]
    for name, row in rows.items():
        size = (compressed / f"{name}.lpc").stat().st_size
        width, height = Image.open(photos / name).size
        assert row["status"] == "ok"
        assert int(row["bytes"]) == size
        assert (int(row["height"]), int(row["width"])) == (height, width)
        assert float(row["bpp"]) == pytest.approx(8 * size / (height * width), rel=1e-4)
        assert 0 <= float(row["bpp"]) - float(row["bpp_estimated"]) <= (48 * 8) / (height * width) + 1e-6


def test_decoding_needs_no_model_named_and_gives_the_reported_quality(
    compressed: Path, photos: Path, tmp_path: Path
) -> None:
    succeed(*DECOMPRESS, f"input={compressed}", f"output={tmp_path}")
    for name, row in report(compressed).items():
        decoded = tmp_path / (name if name.endswith(".png") else f"{name}.png")
        x, x_hat = (np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) for path in (photos / name, decoded))
        psnr = 10 * np.log10(255**2 / np.mean((x - x_hat) ** 2))
        assert float(row["psnr"]) == pytest.approx(psnr, abs=0.01)


def test_two_ranks_write_the_same_bytes_as_one(compressed: Path, trained: Path, photos: Path, tmp_path: Path) -> None:
    model = f"ckpt={trained / 'codec.safetensors'}"
    succeed(*COMPRESS, model, "trainer=ddp_cpu", f"input={photos}", f"output={tmp_path}")
    for name in report(compressed):
        assert (tmp_path / f"{name}.lpc").read_bytes() == (compressed / f"{name}.lpc").read_bytes(), name
    assert {row["status"] for row in report(tmp_path).values()} == {"ok"}


def test_two_ranks_share_a_folder_of_one_picture(trained: Path, photos: Path, tmp_path: Path) -> None:
    model = f"ckpt={trained / 'codec.safetensors'}"
    succeed(*COMPRESS, model, "trainer=ddp_cpu", f"input={photos / 'pixel.png'}", f"output={tmp_path}")
    assert [row["status"] for row in report(tmp_path).values()] == ["ok"]
    succeed(*DECOMPRESS, "trainer=ddp_cpu", f"input={tmp_path}", f"output={tmp_path / 'png'}")
    assert Image.open(tmp_path / "png" / "pixel.png").size == (1, 1)


def test_the_same_command_again_does_only_what_is_missing(
    compressed: Path, trained: Path, photos: Path, tmp_path: Path
) -> None:
    output = tmp_path / "again"
    shutil.copytree(compressed, output)
    (output / "a.png.lpc").unlink()
    damaged = bytearray((output / "d.png.lpc").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (output / "d.png.lpc").write_bytes(damaged)
    succeed(*COMPRESS, f"ckpt={trained / 'codec.safetensors'}", f"input={photos}", f"output={output}")
    statuses = {name: row["status"] for name, row in report(output).items()}
    assert {name for name, status in statuses.items() if status == "ok"} == {"a.png", "d.png"}
    assert set(statuses.values()) == {"ok", "skipped"}
    for name in statuses:
        assert (output / f"{name}.lpc").read_bytes() == (compressed / f"{name}.lpc").read_bytes()


def test_a_bad_picture_fails_alone_and_the_exit_code_says_so(trained: Path, photos: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(photos / "b", mixed)
    (mixed / "text.png").write_text("not a picture")
    done = run(*COMPRESS, f"ckpt={trained / 'codec.safetensors'}", f"input={mixed}", f"output={tmp_path / 'out'}")
    assert "1 of 3 files failed" in refusal(done)
    assert [line for line in done.stdout.splitlines() if line.startswith("failed: text.png: ")]
    rows = report(tmp_path / "out")
    assert [row["status"] for row in rows.values()] == ["ok", "ok", "failed"]
    assert "text.png" in rows["text.png"]["error"]


def test_a_damaged_file_and_one_of_an_unknown_model_fail_alone(compressed: Path, photos: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for name in ("a.png.lpc", "d.png.lpc", "pixel.png.lpc"):
        shutil.copy(compressed / name, files)
    damaged = bytearray((files / "a.png.lpc").read_bytes())
    damaged[-20] ^= 4
    (files / "a.png.lpc").write_bytes(damaged)
    foreign = bytearray((files / "d.png.lpc").read_bytes())
    foreign[8:16] = b"\0" * 8  # another model's fingerprint, and the header's checksum made to fit
    end = _header_end(bytes(foreign))
    import zlib

    foreign[end : end + 4] = zlib.crc32(bytes(foreign[:end])).to_bytes(4, "little")
    (files / "d.png.lpc").write_bytes(foreign)
    assert "2 of 3 files failed" in refuse(*DECOMPRESS, f"input={files}", f"output={tmp_path / 'png'}")
    rows = report(tmp_path / "png")
    assert "damaged" in rows["a.png.lpc"]["error"]
    assert "needs model 0000000000000000" in rows["d.png.lpc"]["error"]
    assert rows["pixel.png.lpc"]["status"] == "ok"


def _header_end(data: bytes) -> int:
    """Where the header's checksum starts: after magic, version, codec, fingerprint and five varint-coded fields."""
    position = 16
    for _ in range(2):  # height, width
        while data[position] & 0x80:
            position += 1
        position += 1
    position += 2  # flags, one section
    while data[position] & 0x80:
        position += 1
    return position + 1


@pytest.mark.faults
def test_when_a_rank_dies_the_exit_code_says_so_and_the_same_command_finishes(
    compressed: Path, trained: Path, photos: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    for index in range(24):
        shutil.copytree(photos / "b", many / f"{index:02d}")
    command = (*COMPRESS, f"ckpt={trained / 'codec.safetensors'}", f"input={many}", f"output={tmp_path / 'out'}")
    process = start(*command, "trainer=ddp_cpu")
    deadline = time.monotonic() + 300
    victim = None
    while victim is None and process.poll() is None:
        assert time.monotonic() < deadline
        victim = second_rank(process.pid) if list((tmp_path / "out").rglob("*.lpc")) else None
        time.sleep(0.01)
    assert victim is not None, "it finished before a rank could be killed"
    os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=300)
    finished = (tmp_path / "out" / "report.csv").exists() and all(
        row["status"] == "ok" for row in report(tmp_path / "out").values()
    )
    assert process.returncode != 0 or finished, "exit code 0 with files missing"
    succeed(*command, "trainer=ddp_cpu")
    rows = report(tmp_path / "out")
    assert len(rows) == 48
    assert {row["status"] for row in rows.values()} <= {"ok", "skipped"}
    assert not [path for path in (tmp_path / "out").rglob("*.tmp*") if path.is_file()]
