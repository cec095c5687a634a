"""What the documents say is so: commands compose, targets, links, files and settings exist, tables agree with the code.

How a documented command is read. Capitals stand for the reader's own paths and stay as they are, since Hydra takes
them for plain text; as the choice of a group (`experiment=NAME`) and as a room (`lightning_modules/ROOM/`) they
stand for `hyperprior`. Of alternatives (`ckpt=PATH|demo`) the first counts; of a sweep, its first and last values.
"""

from __future__ import annotations

import ast
import csv
import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import DictConfig, OmegaConf, open_dict

from benchmarks.__main__ import chosen_rows, parser
from lightning_modules.errors import UserError
from lightning_modules.launch.building import ComposedRun, task_of
from lightning_modules.launch.task_run import require

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("lightning_modules/**/*.md")])
EXPERIMENTS = sorted(CONF.glob("experiment/*.yaml"))
EXAMPLE = "hyperprior"
OUTSIDE = ROOT / "tests" / "outside_room"

FENCE = re.compile(r"^```[a-z]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+")
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
SETTING = re.compile(r"([a-z_][\w.]*)=(\S*)")
FOLDERS = {"benchmarks", "callbacks", "conf", "datamodules", "docs", "lightning_modules", "tests"}


class Text(NamedTuple):
    """A document in two parts: its code (lines of blocks, and spans), and the rest."""

    name: str
    lines: list[str]
    spans: list[str]
    whole: str

    @property
    def code(self) -> list[str]:
        return self.lines + self.spans


def text_of(path: Path) -> Text:
    whole = path.read_text(encoding="utf-8")
    blocks = "\n".join(FENCE.findall(whole)).replace("\\\n", " ")
    return Text(path.relative_to(ROOT).as_posix(), blocks.splitlines(), SPAN.findall(FENCE.sub("", whole)), whole)


def header_of(experiment: Path) -> str:
    """The comment lines an experiment starts with."""
    lines = experiment.read_text(encoding="utf-8").splitlines()
    return "\n".join(itertools.takewhile(lambda line: line.startswith("#"), lines))


def documented_commands() -> Iterator[tuple[str, str]]:
    """(where, command) of every `python ...` that a reader is told to run."""
    for document in DOCUMENTS:
        text = text_of(document)
        yield from ((text.name, code) for code in text.code if re.search(r"\bpython (run\.py|-m benchmarks)\b", code))
    help_text = (CONF / "hydra" / "default.yaml").read_text(encoding="utf-8")
    for where, lines in [("help", help_text), *((path.name, header_of(path)) for path in EXPERIMENTS)]:
        found = re.findall(r"python run\.py.*", lines)
        yield from ((where, re.split(r" {3,}", command)[0].replace("[overrides]", "")) for command in found)


COMMANDS = {command: where for where, command in documented_commands()}
BENCHMARKS = [command for command in COMMANDS if "-m benchmarks" in command]
RUNS = [command for command in COMMANDS if command not in BENCHMARKS]
TEXTS = [text_of(path) for path in DOCUMENTS]
by_name = pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)


def arguments_of(command: str) -> list[str]:
    words = list(itertools.dropwhile(ASSIGNMENT.fullmatch, shlex.split(command)))
    assert words[:2] == ["python", "run.py"], command
    return words[2:]


def readings(overrides: list[str]) -> list[list[str]]:
    """The override lists of the jobs that a command stands for, by the rules above."""
    values = [_values(override.split("|")[0]) for override in overrides]
    jobs = [[first for first, _ in values], [last for _, last in values]]
    return jobs[: len({tuple(job) for job in jobs})]


def _values(override: str) -> tuple[str, str]:
    """The first and the last value that an override takes, as overrides."""
    key, _, value = override.partition("=")
    if (CONF / key).is_dir() and PLACEHOLDER.fullmatch(value):
        return f"{key}={EXAMPLE}", f"{key}={EXAMPLE}"
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return override, override
    if isinstance(interval := parsed.value(), IntervalSweep):
        return f"{key}={interval.start}", f"{key}={interval.end}"
    first, *_, last = parsed.sweep_string_iterator()
    return f"{key}={first}", f"{key}={last}"


@pytest.fixture(scope="module", autouse=True)
def _configurations() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    HydraConfig.instance().cfg = None


def composed(overrides: list[str]) -> DictConfig:
    """The configuration as run.py's tasks get it."""
    cfg = compose("config", overrides, return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = "RUN_DIR"
        HydraConfig.instance().set_config(cfg)
        del cfg["hydra"]
    return cfg


class Reached(Exception):
    """A task has found its settings complete and begins to build things."""


def reach(*arguments: object, **changes: object) -> None:
    raise Reached


# ---- commands


@pytest.mark.parametrize("command", RUNS, ids=lambda command: f"{COMMANDS[command]}: {command}")
def test_a_documented_command_composes_and_is_complete(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "hparams_search=optuna" in command:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="an extra: see pyproject.toml")
    options = get_args_parser().parse_args(arguments_of(command))
    swept = any(OverridesParser.create().parse_override(o.split("|")[0]).is_sweep_override() for o in options.overrides)
    assert swept == bool(options.multirun), "values with commas need -m, and -m needs them"
    monkeypatch.setattr(ComposedRun, "build", reach)
    search_path = []
    if options.config_dir is not None:
        assert options.config_dir == "MYLAB/conf", "the worked example of docs/adding_a_paper.md"
        search_path = [f"hydra.searchpath=[file://{OUTSIDE / 'conf'}]"]
        monkeypatch.syspath_prepend(str(OUTSIDE))
    for overrides in readings(options.overrides):
        cfg = composed([*search_path, *overrides])
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        require(cfg)
        with pytest.raises(Reached), open_dict(cfg):
            task_of(cfg)(ComposedRun(cfg))


def test_the_reader_of_commands_finds_faults() -> None:
    assert readings(["experiment=NAME", "lmbda=1,2,3", "input=DIR", "ckpt=PATH|demo"]) == [
        ["experiment=hyperprior", "lmbda=1", "input=DIR", "ckpt=PATH"],
        ["experiment=hyperprior", "lmbda=3", "input=DIR", "ckpt=PATH"],
    ]
    for overrides in (["experiment=hyperprio"], ["lmda=1"], ["datamodule.crops=64"], ["datamodule=kodaks"]):
        with pytest.raises(Exception, match=r"Could not (find|override)"):
            composed(overrides)
    with pytest.raises(UserError, match="needs output="):
        require(composed(["task=compress", "ckpt=demo", "input=DIR"]))


@pytest.mark.parametrize("command", BENCHMARKS)
def test_a_documented_benchmark_takes_its_options_and_has_its_rows(command: str) -> None:
    options = parser().parse_args(shlex.split(command)[3:])
    assert [row.NUMBER for row in chosen_rows(options.only)] == (options.only or [r.NUMBER for r in chosen_rows(None)])


def test_every_documented_make_target_exists() -> None:
    named = {target for text in TEXTS for code in text.code for target in re.findall(r"^make ([a-z][a-z-]*)", code)}
    assert {"demo", "test"} <= named
    assert named <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.slow
def test_the_commands_of_the_readme_compress_a_folder_and_decode_it_again(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos" / "sub").mkdir(parents=True)
    gradient = Image.linear_gradient("L").resize((70, 41))
    Image.merge("RGB", (gradient, gradient.transpose(Image.Transpose.ROTATE_180), gradient)).save(
        tmp_path / "photos" / "sub" / "gradient.png"
    )
    Image.new("L", (1, 1), 77).save(tmp_path / "photos" / "pixel.jpg")
    environment = os.environ | {"LATENTPRESS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    for task in ("compress", "decompress"):
        lines = [line for line in text_of(ROOT / "README.md").lines if line.startswith("python run.py")]
        command = next(line for line in lines if f"task={task} " in line)
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *arguments_of(command)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    with (tmp_path / "compressed" / "report.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["pixel.jpg", "sub/gradient.png"]
    for name, row in rows.items():
        assert row["status"] == "ok"
        assert int(row["bytes"]) == (tmp_path / "compressed" / f"{name}.lpc").stat().st_size
    with Image.open(tmp_path / "decoded" / "sub" / "gradient.png") as picture:
        assert (picture.size, picture.mode) == ((70, 41), "RGB")
    with Image.open(tmp_path / "decoded" / "pixel.jpg.png") as picture:
        assert (picture.size, picture.mode) == ((1, 1), "L")


# ---- links, files, settings


@by_name
def test_every_relative_link_leads_somewhere(text: Text) -> None:
    here = (ROOT / text.name).parent
    for link in LINK.findall(text.whole):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (here / target).resolve() if target else ROOT / text.name
        assert path.exists(), link
        assert path.is_relative_to(ROOT), link
        assert not anchor or anchor in _anchors(path), link


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")} <= linked


@by_name
def test_every_file_of_ours_that_is_named_exists(text: Text) -> None:
    made = (ROOT / ".gitignore").read_text().splitlines()
    for span in text.spans:
        is_path = span.split("/")[0] in FOLDERS and "/" in span and " " not in span
        if is_path and f"/{span}" not in made:
            assert list(ROOT.glob(span.replace("ROOM", EXAMPLE).rstrip("/"))), span
        if re.fullmatch(r"(lightning_modules|datamodules|callbacks)(\.\w+)+", span):
            module, _, name = span.rpartition(".")
            assert name in _definitions(ROOT / f"{module.replace('.', '/')}.py"), span


@by_name
def test_every_setting_that_is_named_exists(text: Text) -> None:
    cfg = compose("config", [], return_hydra_config=True)
    for span in text.spans:
        words = [SETTING.fullmatch(word) for word in span.split()]
        for key, value in (word.groups() for word in words if word is not None and all(words)):
            if (CONF / key).is_dir():
                assert not value or PLACEHOLDER.fullmatch(value) or (CONF / key / f"{value}.yaml").is_file(), span
            elif not PLACEHOLDER.search(key):
                parent, _, leaf = key.rpartition(".")
                assert leaf in (OmegaConf.select(cfg, parent) if parent else cfg), span


# ---- tables


def table(document: str, heading: str) -> list[list[str]]:
    """Cells of the rows of the first table below a heading, without its head."""
    whole = (ROOT / document).read_text(encoding="utf-8")
    section = whole.split(f"# {heading}\n", 1)[1].split("\n## ")[0]
    lines = section[section.index("\n|") + 1 :].splitlines()
    rows = list(itertools.takewhile(lambda line: line.startswith("|"), lines))
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


def _definitions(source: Path) -> set[str]:
    """Functions and classes of a file, and methods as `Class.method` and `method`."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            names |= {node.name, *(f"{node.name}.{method}" for method in methods)}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return names


def test_every_call_of_the_trip_is_in_the_file_beside_it() -> None:
    steps = table("docs/code.md", "One picture's way through the code")
    assert [step for step, *_ in steps] == [str(number) for number in range(1, len(steps) + 1)]
    for _, file, calls, _ in steps:
        assert set(SPAN.findall(calls)) <= _definitions(ROOT / file.strip("`")), (file, calls)


def test_the_page_on_jobs_gives_the_columns_of_the_report() -> None:
    from lightning_modules.records import REPORT_COLUMNS

    assert ",".join(REPORT_COLUMNS) in text_of(ROOT / "docs" / "jobs.md").spans


def test_the_contract_of_a_codec_is_documented_whole() -> None:
    duties = {SPAN.findall(method)[0] for method, _ in table("docs/adding_a_paper.md", "What the codec gives")}
    tree = ast.parse((ROOT / "lightning_modules" / "codec.py").read_text(encoding="utf-8"))
    methods = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and "abstractmethod" in {ast.unparse(d) for d in node.decorator_list}
    }
    assert duties == methods


def test_the_options_of_the_hyperprior_are_documented_whole() -> None:
    documented = {SPAN.findall(key)[0] for key, *_ in table("docs/hyperprior.md", "Options")}
    assert documented == set(_leaves(options_of("module/hyperprior")))


def test_the_options_of_a_refinement_are_documented_whole() -> None:
    documented = {SPAN.findall(key)[0] for key, *_ in table("docs/sga.md", "Options")}
    assert documented == set(_leaves(options_of("inference/refinement")))


def test_the_rows_of_refinement_are_documented_whole() -> None:
    rows = [*table("docs/sga.md", "Methods"), *table("docs/bits_back.md", "Rows")]
    documented = {row for cells in rows for row in SPAN.findall(cells[0])}
    files = {path.stem for path in CONF.glob("inference/*.yaml")} - {"amortized", "refinement"}
    assert documented == files


def options_of(name: str) -> dict[str, Any]:
    """The settings of a file of conf/, with those of the groups that its defaults put into it."""
    settings: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    for default in settings.pop("defaults", []):
        for key, choice in default.items() if isinstance(default, dict) else []:
            group, _, place = key.removeprefix("/").partition("@")
            if not place.startswith("_"):
                settings[place] = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml"))
    return settings


def _leaves(node: object) -> list[str]:
    if not isinstance(node, dict):
        return [""]
    return [f"{key}.{leaf}".rstrip(".") for key, value in node.items() for leaf in _leaves(value)]


def test_the_widths_of_the_hyperprior_are_those_of_its_configuration() -> None:
    rows = table("docs/hyperprior.md", "Widths")
    assert len(rows) == 7
    for lmbda, *widths in rows:
        codec = composed(["experiment=hyperprior", f"lmbda={lmbda}"]).module.codec
        assert [int(width) for width in widths] == [codec.N, codec.M]


def test_every_codec_id_is_documented_and_none_is_used_twice() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("lightning_modules/**/*codec.py"))
    used = re.findall(r"^    codec_id = (\d+)$", source, re.MULTILINE)
    assert sorted(used) == sorted(row[0] for row in table("docs/format.md", "4. Codecs"))
    assert len(used) == len(set(used)) > 0


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_says_what_it_is_how_to_run_it_what_to_expect_and_the_cost(experiment: Path) -> None:
    header = header_of(experiment)
    places = [header.find(f"\n# {word}:") for word in ("Reproduces", "Command", "Expected", "Cost")]
    assert -1 not in places
    assert places == sorted(places)
    assert f"experiment={experiment.stem}" in header
