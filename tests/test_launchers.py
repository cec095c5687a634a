"""Hydra's launchers and its search by Optuna start the very same processes of jobs; each is an extra of ours."""

from __future__ import annotations

import csv
import secrets
from pathlib import Path

import pytest
import tomli
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf
from PIL import Image

from lightning_modules.launch.errors import explain
from tests.harness.command_line import REPOSITORY, succeed
from tests.harness.command_line import run as run_command
from tests.lightning_modules.sga.small_refinement import crop_of_photograph

RAY_INIT = "hydra.launcher.ray.init"
LAUNCHERS = {
    "joblib": ("hydra_joblib_launcher", ("hydra.launcher.n_jobs=2",)),
    "submitit_local": ("hydra_submitit_launcher", ("hydra.launcher.timeout_min=10",)),
    "ray": ("hydra_ray_launcher", (f"+{RAY_INIT}.num_cpus=2", f"+{RAY_INIT}.include_dashboard=false")),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    picture = crop_of_photograph(60, 150, 64, 64)
    Image.fromarray((picture[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / "a.png")
    return folder


def common(photos: Path) -> tuple[str, ...]:
    return ("task=test", "experiment=hyperprior", "ckpt=demo", "logger=none", f"datamodule.test='{photos}'")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_of_two_jobs_of_a_launcher_one_is_done_and_the_other_told_to_have_failed(
    launcher: str, photos: Path, tmp_path: Path
) -> None:
    package, settings = LAUNCHERS[launcher]
    pytest.importorskip(f"hydra_plugins.{package}", reason="an extra: see pyproject.toml")
    sweep, missing = tmp_path / "sweep", tmp_path / "missing"
    where = (f"datamodule.test='{photos}','{missing}'", "datamodule=image_folder", f"hydra.sweep.dir={sweep}")
    how = (f"hydra/launcher={launcher}", *settings)
    token = tmp_path / "token"  # of Ray's own cluster, which else leaves one in the home folder
    token.write_text(secrets.token_hex(32))
    done = run_command("-m", *common(photos)[:-1], *where, *how, RAY_AUTH_TOKEN_PATH=str(token))
    assert done.returncode == 1, done.stderr[-3000:]
    whole, broken = sorted(path for path in sweep.iterdir() if path.is_dir() and not path.name.startswith("."))
    told = [line for line in done.stderr.splitlines() if line.startswith(("failed: ", "error: "))]
    assert len(told) == 2, done.stderr[-3000:]
    assert told[0].startswith(f"failed: {broken.name}: {missing}: no such file or folder; ")
    assert told[0].endswith(f"; log: {broken / 'job.log'}")
    assert told[1] == "error: 1 job has failed; the same command does it again"
    with (sweep / "summary.csv").open(newline="") as file:
        assert [row["pictures"] for row in csv.DictReader(file)] == ["1", "0"]
    assert "means over pictures" not in (whole / "job.log").read_text(), "the sweep's own process says that"
    assert OmegaConf.load(whole / "frozen.yaml").hydra.mode == "MULTIRUN"


@pytest.mark.slow
def test_a_search_ends_with_the_best_of_its_trials_and_is_not_done_twice(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="an extra: see pyproject.toml")
    space = ("lmbda=choice(0.001,0.005)", "inference.steps=2", "inference=sga", "hydra.sweeper.n_trials=2")
    search = ("hparams_search=optuna", "datamodule=image_folder", f"hydra.sweep.dir={tmp_path}")
    command = (*search, *common(photos), *space, "optimize=bpp")
    succeed(*command)
    with (tmp_path / "summary.csv").open(newline="") as file:
        rates = [float(row["bpp"]) for row in csv.DictReader(file)]
    assert len(rates) == 2
    assert OmegaConf.load(tmp_path / "optimization_results.yaml").best_value == pytest.approx(min(rates), rel=1e-6)
    stamps = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("results.csv"))]
    succeed(*command)
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("results.csv"))] == stamps


@pytest.mark.parametrize(
    ("group", "name", "extra"),
    [
        ("hydra/launcher", "ray", "ray"),
        ("hydra/launcher", "submitit_slurm", "slurm"),
        ("hydra/sweeper", "optuna", "optuna"),
    ],
)
def test_a_plugin_that_is_not_installed_is_one_line_that_says_how_to_get_it(group: str, name: str, extra: str) -> None:
    line = explain(MissingConfigException("not found", f"{group}/{name}", ["basic"]))
    assert line == f"{group}={name}: its plugin is not installed; pip install -e .[{extra}]"
    extras = tomli.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any("hydra" in requirement for requirement in extras[extra])
