"""A codec of a package outside this repository: the example of docs/adding_a_paper.md, used as its authors would."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_modules.metrics.psnr import psnr
from tests.harness.command_line import refusal, run

HERE = Path(__file__).parent / "outside_room"
TRUSTED = "trust=[mylab]"
in_both_precisions = pytest.mark.parametrize(
    "trained", ["32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)], indirect=True
)
in_float32 = pytest.mark.parametrize("trained", ["32-true"], indirect=True)


def command(folder: Path, *words: str, trust: str = TRUSTED) -> subprocess.CompletedProcess[str]:
    """Run a command of that laboratory; words name what lies in `folder` by paths that begin with @."""
    given = [word.replace("@", f"{folder}/") for word in [*words, *([trust] if trust else [])]]
    environment = {"PYTHONPATH": str(HERE), "LATENTPRESS_CACHE": f"{folder}/cache"}
    return run("--config-dir", str(HERE / "conf"), *given, **environment, LATENTPRESS_CONFIG=str(folder / "user.yaml"))


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Train for some steps; return the folder, in which `run` has the model and `photos` two pictures."""
    folder = tmp_path_factory.mktemp("laboratory")
    precision = f"trainer.precision={request.param}"
    done = command(folder, "experiment=mine", "debug=tiny", "hydra.run.dir=@run", precision)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "photos").mkdir()
    generator = np.random.default_rng(0)
    for name, size in (("wide", (48, 65)), ("high", (33, 20))):
        ramp = np.add.outer(np.linspace(0, 120, size[0]), np.linspace(0, 90, size[1]))
        pixels = (ramp[..., None] + generator.integers(0, 40, (*size, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{name}.png")
    return folder, precision


@in_both_precisions
def test_it_trains_compresses_and_decompresses_and_reports_what_is_decoded(trained: tuple[Path, str]) -> None:
    folder, precision = trained
    with (folder / "run" / "results.csv").open(newline="") as file:
        assert all(row["status"] == "ok" for row in csv.DictReader(file))
    words = ["experiment=mine", "ckpt=@run/codec.safetensors", precision]
    done = command(folder, "task=compress", *words, "input=@photos", "output=@files")
    assert done.returncode == 0, done.stderr[-3000:]
    done = command(folder, "task=decompress", "input=@files", "output=@decoded")
    assert done.returncode == 0, done.stderr[-3000:]
    with (folder / "files" / "report.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"wide.png", "high.png"}
    for name, row in rows.items():
        with Image.open(folder / "photos" / name) as x, Image.open(folder / "decoded" / name) as x_hat:
            assert float(row["psnr"]) == pytest.approx(psnr(x, x_hat), abs=1e-4)
        assert int(row["bytes"]) == (folder / "files" / f"{name}.lpc").stat().st_size


@in_float32
def test_it_shows_in_reports_and_its_model_has_a_card(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    done = command(folder, "task=report", "input=@run", "output=@report")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "mine" in (folder / "report" / "report.html").read_text()
    assert "FactorizedCodec" in (folder / "run" / "card.md").read_text()


@in_float32
def test_without_a_word_of_trust_nothing_is_begun_and_nothing_is_read(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    for words in (
        ["experiment=mine", "debug=tiny", "hydra.run.dir=@never"],
        ["task=compress", "experiment=mine", "ckpt=@run/codec.safetensors", "input=@photos", "output=@never"],
        ["task=test", "experiment=hyperprior", "ckpt=@run/codec.safetensors", "debug=tiny", "hydra.run.dir=@never"],
    ):
        done = command(folder, *words, trust="")
        assert done.returncode == 1
        assert "trust=[mylab]" in done.stderr
        assert "outside latentpress" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not list((folder / "never").glob("checkpoints/*"))
    assert not list((folder / "never").glob("*.lpc"))


@in_float32
def test_trust_may_stand_in_a_file_of_the_user(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    words = ["task=compress", "experiment=mine", "ckpt=@run/codec.safetensors", "input=@photos", "output=@again"]
    (folder / "user.yaml").write_text("trust: [mylab]\n")
    assert command(folder, *words, trust="").returncode == 0
    (folder / "user.yaml").write_text("trust: mylab, sneaky\n")
    done = command(folder, *words, trust="")
    (folder / "user.yaml").unlink()
    assert done.returncode == 1
    assert "user.yaml" in done.stderr


@in_float32
def test_a_codec_without_packaged_models_says_so(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    done = command(folder, "task=compress", "experiment=mine", "ckpt=demo", "input=@photos", "output=@never")
    assert done.returncode == 1
    assert "no packaged model comes with this codec" in done.stderr


def test_a_package_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    words = ["experiment=mine", "debug=tiny", "hydra.run.dir=@never", TRUSTED]
    given = [word.replace("@", f"{tmp_path}/") for word in words]
    done = run("--config-dir", str(HERE / "conf"), *given, LATENTPRESS_CACHE=str(tmp_path / "cache"), PYTHONPATH="")
    assert refusal(done).startswith("error: module.codec: there is no package mylab; install it")
