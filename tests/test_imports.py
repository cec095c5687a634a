"""The arrows of the house: who may import whom, kept by parsing imports instead of by good intentions.

A package inside `lightning_modules` that is not part of the floor is a room, so a new room is checked without
an edit here; only a room that builds on another one has to be named in `NEIGHBOURS` of `tests/named_rooms.py`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra import compose, initialize_config_dir

from tests.harness.command_line import REPOSITORY
from tests.harness.named_rooms import NEIGHBOURS, all_rooms, is_one_room, rooms_composed, rooms_named

HOUSE = ("lightning_modules", "datamodules", "callbacks")
OUTSIDE = ("run", "tests", "benchmarks")
FLOOR_PACKAGES = {
    "checkpoints",
    "classical",
    "coding",
    "doctor",
    "exact",
    "folder_jobs",
    "metrics",
    "reports",
    "sweeps",
    "system",
    "training",
}
PROGRAM = {"run.py", "launch", "tasks"}
"""What begins a run: `run.py` starts `launch`, which starts one of `tasks`; nothing else of ours knows them."""

RECORDS = "lightning_modules.records"
SHARED = (
    "lightning_modules.capabilities",
    "lightning_modules.codec",
    RECORDS,
    "lightning_modules.errors",
    "lightning_modules.metrics",
    "lightning_modules.system",
)
"""What datamodules and callbacks may import of lightning_modules."""
EXPERIMENTS = sorted(path.stem for path in (REPOSITORY / "conf" / "experiment").glob("*.yaml"))
SHARED_GROUPS = (
    *("callbacks", "card", "datamodule", "debug", "hparams_search", "hydra", "logger", "optimizer", "paths"),
    *("schedule", "task", "trainer"),
)
"""Groups of configurations that serve the models of every room."""

BANNED_NAMES = {"utils", "helpers", "common", "misc", "base"}
LIGHT = {"hydra", "omegaconf"}
"""What may be imported before a task runs, besides the standard library."""

LIGHT_FILES = ("lightning_modules.errors", "lightning_modules.launch", "lightning_modules.system.heap")
"""The same, of ours."""


class Import(NamedTuple):
    """One imported module. name: absolute and dotted. lazy: inside a function, so not paid at start-up."""

    name: str
    line: int
    lazy: bool

    def within(self, *packages: str) -> bool:
        """Whether the module is one of `packages` or lies inside one."""
        return any(self.name == package or self.name.startswith(package + ".") for package in packages)


def imports_of(source: Path, root: Path, typing: bool = True) -> list[Import]:
    """Every import of a file, relative and `import_module("...")` ones included. typing: also those for types alone."""
    tree = ast.parse(source.read_text(encoding="utf-8"), str(source))
    package = source.relative_to(root).parent.parts
    return [
        Import(name, getattr(node, "lineno", 0), lazy)
        for node, lazy in _walk(tree, typing=typing)
        for name in _names(node, package, root)
    ]


def _walk(node: ast.AST, lazy: bool = False, typing: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if not typing and isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        child_is_lazy = lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield child, child_is_lazy
        yield from _walk(child, child_is_lazy, typing)


def _names(node: ast.AST, package: tuple[str, ...], root: Path) -> Iterator[str]:
    match node:
        case ast.Import(names=aliases):
            yield from (alias.name for alias in aliases)
        case ast.ImportFrom(module=module, names=aliases, level=level):
            above = package[: len(package) - level + 1] if level else ()
            origin = ".".join((*above, *([module] if module else [])))
            for alias in aliases:
                inner = f"{origin}.{alias.name}"
                yield inner if _is_module(inner, root) else origin
        case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
            if ast.unparse(func) in {"import_module", "importlib.import_module", "__import__"}:
                yield name


def _is_module(name: str, root: Path) -> bool:
    path = root.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def room_of(module: str, root: Path) -> str | None:
    """The room a dotted module name lies in; None for the floor and everything outside."""
    parts = module.split(".")
    if parts[0] != "lightning_modules" or len(parts) < 2 or parts[1] in FLOOR_PACKAGES | PROGRAM:
        return None
    return parts[1] if (root / parts[0] / parts[1]).is_dir() else None


def violations(root: Path) -> list[str]:
    """Broken arrows and banned names below `root`, one line each: file, line, what is wrong."""
    found = []
    for source in _sources(root):
        where = source.relative_to(root)
        drawers = BANNED_NAMES & {*where.parent.parts, where.stem}
        found += [f"{where}: '{name}' says nothing; name it for the noun it defines" for name in drawers]
        for statement in imports_of(source, root):
            fault = _library_fault(where, statement) or _arrow_fault(where, statement, root)
            if fault:
                found.append(f"{where}:{statement.line}: imports {statement.name}, but {fault}")
    return found


def _sources(root: Path) -> Iterator[Path]:
    yield from sorted(root.glob("*.py"))
    for package in (*HOUSE, "benchmarks", "tests"):
        yield from sorted((root / package).rglob("*.py"))


def _library_fault(where: Path, statement: Import) -> str | None:
    owner = where.parts[0]
    if owner in {"tests", "benchmarks"}:
        return None
    if statement.within("constriction") and where.as_posix() != "lightning_modules/coding/ans.py":
        return "only lightning_modules/coding/ans.py imports the ANS library"
    if statement.within("hydra") and program_of(where) not in {"run.py", "launch"}:
        return "only run.py and launch import hydra"
    if statement.within("pytorch_lightning"):
        return "Lightning is imported as `lightning`; the two packages' classes are not interchangeable"
    may_import_lightning = owner in {"datamodules", "callbacks"} or where.name.endswith("module.py")
    if statement.within("lightning") and not may_import_lightning and program_of(where) not in {"launch", "tasks"}:
        return "only *module.py, datamodules, callbacks, launch and tasks import Lightning"
    return None


def _arrow_fault(where: Path, statement: Import, root: Path) -> str | None:
    owner, program = where.parts[0], program_of(where)
    if program in {"run.py", "launch"}:
        return _start_fault(statement, root)
    if owner not in HOUSE or not statement.within(*HOUSE, *OUTSIDE):
        return None
    if owner in {"datamodules", "callbacks"}:
        allowed = statement.within(owner, *SHARED)
        return None if allowed else f"of ours, {owner} imports itself and {', '.join(SHARED)} only"
    if statement.within("lightning_modules.launch", "lightning_modules.tasks"):
        inside = program == "tasks" and statement.within("lightning_modules.tasks")
        return None if inside else "only run.py and launch know what begins a run; a task is named by conf/task"
    if program == "tasks":
        return "tasks import the floor" if room_of(statement.name, root) or statement.within(*OUTSIDE) else None
    if not statement.within("lightning_modules"):
        return "lightning_modules imports nothing of ours but itself"
    room, target = room_of(".".join(where.with_suffix("").parts), root), room_of(statement.name, root)
    if target is None or target == room or target in NEIGHBOURS.get(room or "", set()):
        return None
    return "the floor never imports a room" if room is None else "a room imports the floor and itself"


def program_of(where: Path) -> str | None:
    """Return which part of the program a file is: `run.py`, `launch` or `tasks`; None for every other."""
    part = where.parts[1] if where.parts[0] == "lightning_modules" and len(where.parts) > 2 else where.parts[0]
    return part if part in PROGRAM else None


def _start_fault(statement: Import, root: Path) -> str | None:
    """`run.py` and `launch` name no paper and no task, and import nothing heavy before a task runs."""
    if room_of(statement.name, root):
        return "run.py and launch name no paper"
    if statement.within("lightning_modules.tasks"):
        return "launch reads which task there is from conf/task"
    light = statement.within(*LIGHT, *LIGHT_FILES) or _is_standard_library(statement.name)
    return None if light or statement.lazy else "run.py and launch import only hydra before a task runs"


def circles(root: Path) -> list[list[str]]:
    """Return the groups of files below `root` that import each other in a circle, lazily or not; types do not count."""
    modules = {
        _dotted(source, root): source for source in _sources(root) if source.relative_to(root).parts[0] != "tests"
    }
    arrows = {}
    for name, source in modules.items():
        named = {statement.name for statement in imports_of(source, root, typing=False)}
        arrows[name] = sorted((named & modules.keys()) - {name})
    return _strongly_connected(arrows)


def _dotted(source: Path, root: Path) -> str:
    parts = source.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _strongly_connected(arrows: dict[str, list[str]]) -> list[list[str]]:
    """Return the strongly connected components of several nodes (Kosaraju's two passes of depth first search)."""
    order: list[str] = []
    seen: set[str] = set()
    for node in arrows:
        _visit(node, arrows, seen, order)
    backwards: dict[str, list[str]] = {node: [] for node in arrows}
    for node, targets in arrows.items():
        for target in targets:
            backwards[target].append(node)
    seen.clear()
    components = []
    for node in reversed(order):
        component: list[str] = []
        _visit(node, backwards, seen, component)
        components.append(sorted(component))
    return [component for component in components if len(component) > 1]


def _visit(node: str, arrows: dict[str, list[str]], seen: set[str], order: list[str]) -> None:
    """Append what is reached from `node` and not `seen` yet, each after all that it leads to."""
    if node not in seen:
        seen.add(node)
        for target in arrows[node]:
            _visit(target, arrows, seen, order)
        order.append(node)


def _is_standard_library(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names


def test_every_arrow_of_the_house_points_the_allowed_way(repository: Path) -> None:
    assert violations(repository) == []


def test_no_files_import_each_other_in_a_circle(repository: Path) -> None:
    assert circles(repository) == []


@pytest.mark.parametrize(
    ("coder", "found"),
    [
        ("from lightning_modules import tables", [["lightning_modules.codec", "lightning_modules.tables"]]),
        ("def f():\n    from . import tables", [["lightning_modules.codec", "lightning_modules.tables"]]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import tables", []),
        ("import numpy", []),
    ],
)
def test_a_circle_of_files_is_found_and_types_make_none(coder: str, found: list[list[str]], tmp_path: Path) -> None:
    _write(tmp_path / "lightning_modules" / "codec.py", coder)
    _write(tmp_path / "lightning_modules" / "tables.py", "from lightning_modules.codec import Codec")
    _write(tmp_path / "run.py", "import lightning_modules.tables")
    assert circles(tmp_path) == found


def test_shared_configurations_name_no_room_and_a_file_names_one(repository: Path) -> None:
    conf = repository / "conf"
    rooms = all_rooms(repository, FLOOR_PACKAGES | PROGRAM)
    assert {"hyperprior", "sga", "sic", "rec"} <= rooms
    for path in sorted(conf.rglob("*.yaml")):
        named = rooms_named(path.read_text(encoding="utf-8"), rooms)
        assert is_one_room(named), path
        assert not named or path.parent.relative_to(conf).parts[:1] not in [(group,) for group in SHARED_GROUPS], path
    choices = re.compile(r"- (module|experiment): hyperprior\n")  # of the defaults: some model has to be the first
    whole = choices.sub("", (conf / "config.yaml").read_text(encoding="utf-8"))
    assert not [room for room in rooms if re.search(rf"\b{room}\b", whole)]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_is_composed_of_one_room(experiment: str, repository: Path) -> None:
    rooms = all_rooms(repository, FLOOR_PACKAGES | PROGRAM)
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        named = rooms_composed(compose("config", [f"experiment={experiment}"]), rooms)
    assert named
    assert is_one_room(named)


def test_two_rooms_are_told_from_one() -> None:
    assert is_one_room({"sga", "hyperprior"})
    assert not is_one_room({"rec", "sga"})
    assert not is_one_room({"sic", "hyperprior"})
    text = (
        "_target_: lightning_modules.rec.codec.X\npath: lightning_modules.coding.ans\nk: lightning_modules.sga.rounding"
    )
    assert rooms_named(text, {"rec", "sga", "sic"}) == {"rec", "sga"}


def test_the_checker_reads_the_whole_house(repository: Path) -> None:
    read = {source.relative_to(repository).as_posix() for source in _sources(repository)}
    assert {"lightning_modules/codec.py", "lightning_modules/coding/ans.py"} <= read
    hyperprior = imports_of(repository / "lightning_modules" / "hyperprior" / "codec.py", repository)
    assert any(statement.within(RECORDS) for statement in hyperprior)


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("run.py", "import torch", "before a task runs"),
        ("run.py", "def task():\n    from lightning_modules.sga import rounding", "name no paper"),
        ("lightning_modules/launch/program.py", "from lightning_modules.codec import Codec", "before a task runs"),
        ("lightning_modules/launch/program.py", "def do():\n    from ..sga import rounding", "name no paper"),
        ("lightning_modules/launch/program.py", "def do():\n    from ..tasks import card", "from conf/task"),
        ("lightning_modules/tasks/training.py", "from hydra.utils import instantiate", "only run.py and launch"),
        ("lightning_modules/tasks/training.py", "from ..launch import errors", "only run.py and launch know"),
        ("lightning_modules/tasks/training.py", "from ..sga import rounding", "tasks import the floor"),
        ("lightning_modules/codec.py", "from .tasks import card", "only run.py and launch know"),
        ("datamodules/folder.py", "from lightning_modules.coding import ans", "datamodules imports itself"),
        ("datamodules/folder.py", "import callbacks.writer", "datamodules imports itself"),
        ("callbacks/writer.py", "from lightning_modules import hyperprior", "callbacks imports itself"),
        ("lightning_modules/codec.py", "from .hyperprior import codec", "floor never imports a room"),
        ("lightning_modules/coding/ans.py", "from ..sga import rounding", "floor never imports a room"),
        ("lightning_modules/codec.py", "import datamodules", "nothing of ours but itself"),
        ("lightning_modules/hyperprior/codec.py", "import lightning_modules.sga.rounding", "and itself"),
        ("lightning_modules/hyperprior/codec.py", "import lightning as L", "import Lightning"),
        ("lightning_modules/sga/refinement.py", "from hydra.utils import instantiate", "only run.py"),
        ("lightning_modules/coding/tables.py", "import constriction", "the ANS library"),
        ("callbacks/writer.py", "from pytorch_lightning import Callback", "not interchangeable"),
        ("callbacks/writer.py", "m = __import__('hydra')", "only run.py"),
        ("lightning_modules/sga/utils.py", "", "name it for the noun"),
        ("tests/common/test_x.py", "", "name it for the noun"),
    ],
)
def test_a_wrong_import_or_name_is_reported_with_its_place(tmp_path: Path, path: str, source: str, fault: str) -> None:
    _build_house(tmp_path)
    _write(tmp_path / path, source)
    (report,) = violations(tmp_path)
    assert report.startswith(path)
    assert fault in report


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("run.py", "import hydra\nfrom omegaconf import OmegaConf\nfrom lightning_modules.launch import errors"),
        ("lightning_modules/launch/program.py", "from hydra.core import plugins\ndef do():\n    import lightning"),
        ("lightning_modules/launch/program.py", "from lightning_modules.launch.errors import explain"),
        (
            "lightning_modules/tasks/training.py",
            "import lightning\nfrom callbacks.writer import Writer\nfrom . import card",
        ),
        ("callbacks/writer.py", "import lightning as L\nfrom lightning_modules.records import CodedImage"),
        ("datamodules/folder.py", "from . import picture\nfrom datamodules.picture import read"),
        ("lightning_modules/sga/refinement.py", "from lightning_modules.hyperprior.codec import Codec"),
        ("lightning_modules/sga/module.py", "import lightning as L\nfrom ..codec import Codec"),
        ("lightning_modules/coding/ans.py", "import constriction\nfrom .tables import CodingTables"),
        ("tests/test_words.py", "import constriction\nimport lightning_modules.sga"),
    ],
)
def test_allowed_imports_are_not_reported(tmp_path: Path, path: str, source: str) -> None:
    _build_house(tmp_path)
    _write(tmp_path / path, source)
    assert violations(tmp_path) == []


def _build_house(root: Path) -> None:
    for path in (
        "lightning_modules/codec.py",
        "lightning_modules/coding/ans.py",
        "lightning_modules/coding/tables.py",
        "lightning_modules/hyperprior/codec.py",
        "lightning_modules/sga/rounding.py",
        "lightning_modules/launch/errors.py",
        "lightning_modules/tasks/card.py",
        "datamodules/picture.py",
        "callbacks/writer.py",
    ):
        _write(root / path, "")


def _write(path: Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
