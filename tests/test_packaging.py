"""What a fresh clone relies on: pins that fit the ranges, targets that exist, a tree without strangers."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

TOP_LEVEL = {
    *(
        ".ci",
        ".gitignore",
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "Makefile",
        "README.md",
        "pyproject.toml",
        "requirements.lock",
        "run.py",
    ),
    *("benchmarks", "callbacks", "conf", "datamodules", "docs", "lightning_modules", "tests"),
}
HOUSE = ("run.py", "lightning_modules", "datamodules", "callbacks", "benchmarks")
MACHINE_PATH = re.compile(r"(?<![\w.}/-])/(?:work|root|opt|farm|home|Users|mnt)/[\w.-]")
TEXT_SUFFIXES = {"", ".py", ".md", ".toml", ".yaml", ".yml", ".json", ".lock", ".txt", ".cfg", ".csv"}


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomli.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lock(repository: Path) -> dict[str, str]:
    return pins_of(repository / "requirements.lock")


@pytest.fixture(scope="module")
def launchers(repository: Path) -> dict[str, str]:
    """What `make test-all` has besides."""
    return pins_of(repository / ".ci" / "launchers.lock")


def pins_of(path: Path) -> dict[str, str]:
    pins = [line.split("==") for line in path.read_text(encoding="utf-8").splitlines()]
    return {canonicalize_name(name): version for name, version in pins}


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[str]:
    """Files git has, and new ones it would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.splitlines() if (repository / name).is_file()]


@pytest.mark.parametrize("name", ["requirements.lock", ".ci/launchers.lock"])
def test_a_lock_is_plain_pins_each_package_once(repository: Path, name: str) -> None:
    lines = (repository / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line)] == []
    names = [canonicalize_name(line.split("==")[0]) for line in lines]
    assert len(names) == len(set(names))


def test_the_lock_fits_every_range_that_pyproject_gives(project: dict[str, Any], lock: dict[str, str]) -> None:
    wanted = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"]
    assert [r for r in map(Requirement, wanted) if not r.specifier.contains(lock[canonicalize_name(r.name)])] == []


def test_the_launchers_lock_has_every_extra_for_sweeps_and_nothing_of_the_other_lock(
    project: dict[str, Any], lock: dict[str, str], launchers: dict[str, str]
) -> None:
    extras = project["project"]["optional-dependencies"]
    wanted = [Requirement(line) for name in ("joblib", "ray", "slurm", "optuna") for line in extras[name]]
    assert [r for r in wanted if not r.specifier.contains(launchers[canonicalize_name(r.name)])] == []
    assert launchers.keys().isdisjoint(lock)


def test_the_lock_holds_everything_its_packages_need(lock: dict[str, str]) -> None:
    missing = {
        f"{name} needs {requirement.name}"
        for name in lock
        for requirement in _installed_requirements(name)
        if canonicalize_name(requirement.name) not in lock
    }
    assert missing == set()


def _installed_requirements(name: str) -> list[Requirement]:
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    requirements = map(Requirement, lines)
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def test_every_library_the_house_imports_is_a_declared_dependency(project: dict[str, Any], repository: Path) -> None:
    declared = {canonicalize_name(Requirement(line).name) for line in project["project"]["dependencies"]}
    providers = importlib.metadata.packages_distributions()
    undeclared = {
        f"{source.relative_to(repository)} imports {module}"
        for source in _house_sources(repository)
        for module in _third_party_modules(source)
        if not declared & {canonicalize_name(name) for name in providers.get(module, [])}
    }
    assert undeclared == set()


def _house_sources(repository: Path) -> list[Path]:
    sources: list[Path] = []
    for name in HOUSE:
        path = repository / name
        sources += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return sources


def _third_party_modules(source: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.split(".")[0])
    ours = {Path(name).stem for name in HOUSE}
    return modules - ours - set(sys.stdlib_module_names)


def test_one_oldest_python_is_named_everywhere(project: dict[str, Any]) -> None:
    oldest = SpecifierSet(project["project"]["requires-python"])
    assert oldest.contains("3.10")
    assert not oldest.contains("3.9")
    assert project["tool"]["mypy"]["python_version"] == "3.10"
    assert project["tool"]["ruff"]["target-version"] == "py310"


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("demo", "run.py task=demo"),
        ("test", '-m pytest -n 2 --dist loadfile -m "not slow"'),
        ("test", "-m ruff check ."),
        ("test-all", "-m pytest"),
        ("test-all", "-m mypy ."),
        ("bench", "-m benchmarks"),
        ("lint", "-m ruff format --check ."),
        ("env", "-m pip install"),
    ],
)
def test_make_runs_it_in_an_environment_made_from_the_lock(
    repository: Path, tmp_path: Path, target: str, command: str
) -> None:
    dry_run = subprocess.run(
        ["make", "-n", target, f"VENV={tmp_path / 'venv'}"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert command in dry_run
    assert dry_run.index("-m venv") < dry_run.index("-r requirements.lock")


@pytest.mark.parametrize("exit_code", [0, 3])
def test_ci_passes_on_the_exit_code_and_leaves_no_environment(repository: Path, tmp_path: Path, exit_code: int) -> None:
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text(f'#!/bin/sh\nmkdir -p "${{2#VENV=}}/bin" && echo "$@"\nexit {exit_code}\n')
    make.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "PATH": f"{make.parent}:{os.environ['PATH']}", "TMPDIR": str(scratch)}
    run = subprocess.run([repository / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == exit_code
    assert run.stdout.startswith(f"test VENV={scratch}/")
    assert list(scratch.iterdir()) == []


def test_the_top_level_holds_only_what_the_design_names(tracked: list[str]) -> None:
    assert {name.split("/")[0] for name in tracked} <= TOP_LEVEL


def test_no_file_names_a_path_of_one_machine(repository: Path, tracked: list[str]) -> None:
    found = [
        f"{name}:{number}"
        for name in tracked
        if Path(name).suffix in TEXT_SUFFIXES
        for number, line in enumerate((repository / name).read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_machine_path"),
    [
        ("data: /{}/someone/kodak".format("home"), True),
        ("'/{}/tools/python'".format("opt"), True),
        ("https://example.com/work/kodak.zip", False),
        ("${paths.data_dir}/work/kodak", False),
        ("#!/usr/bin/env bash", False),
    ],
)
def test_machine_paths_are_told_from_addresses(line: str, is_machine_path: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) is is_machine_path
