"""Is this machine fit to code and decode? Versions, devices, models found, and a self-test in every environment."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from torch import Tensor

from lightning_modules.checkpoints.checkpoint import PACKAGED
from lightning_modules.checkpoints.model_library import packaged_models
from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.doctor.environments import environments
from lightning_modules.doctor.self_test import Result, SelfTest
from lightning_modules.errors import CodingError
from lightning_modules.system.free_memory import free_memory

PACKAGES = (
    "torch lightning hydra-core omegaconf compressai lpips torchmetrics wandb pillow constriction numpy safetensors"
)

CROP = (192, 256)
CROPS = 8
"""Pieces of photographs that the self-test codes: as many as its largest batch."""


class Doctor:
    """pictures: (name, path) of photographs to cut `CROPS` pieces from. models: a folder of packaged models of yours.

    mismatches: files that decoded to other integers somewhere, or not at all, in the last run.
    """

    def __init__(self, *, pictures: Sequence[tuple[str, Path]], models: str | Path) -> None:
        self.pictures = pictures
        self.models = Path(models)
        self.mismatches = 0

    def run(self) -> None:
        """Print what there is, and the table of mismatches."""
        console = Console()
        console.print(versions(), devices(), weights([PACKAGED, self.models]))
        results = self.self_test(console)
        console.print(mismatch_table(results))
        self.mismatches = sum(result.mismatches for result in results)

    def self_test(self, console: Console) -> list[Result]:
        """Run the packaged models in all environments, two processes at a time."""
        chosen = environments()
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            test = SelfTest(sorted(PACKAGED.glob("*.safetensors")), list(crops(self.pictures)), Path(folder))
            running = pool.map(test.result, chosen)
            return list(track(running, "self-test", len(chosen), console=console, transient=True))


def versions() -> Table:
    table = _table("version", "of")
    table.add_row(platform.python_version(), "Python")
    for name in PACKAGES.split():
        try:
            table.add_row(version(name), name)
        except PackageNotFoundError:
            table.add_row("[red]missing[/]", name)
    return table


def devices() -> Table:
    table = _table("device", "what it offers")
    memory = free_memory(torch.device("cpu")) / 2**30
    table.add_row("cpu", f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, {memory:.1f} GiB free")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        table.add_row(f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB")
    if not torch.cuda.is_available():
        table.add_row("cuda", "none")
    return table


def weights(folders: Sequence[Path]) -> Table:
    """Return every packaged model found, and whether it loads: its checksum, its fingerprint, its known answer."""
    table = _table("fingerprint", "lmbda", "model", "state")
    for folder in folders:
        for mark, path in packaged_models(folder).items():
            try:
                lmbda = load_model(path).hyperparameters.get("lmbda", "")
                table.add_row(mark, str(lmbda), escape(path.name), "[green]loads, known answer right[/]")
            except CodingError as error:
                table.add_row(mark, "", escape(path.name), f"[red]{escape(str(error))}[/]")
    return table


def mismatch_table(results: Sequence[Result]) -> Table:
    """Return a row for each environment. The first three columns must be zero; pixels may differ by one level."""
    table = _table("wrong", "unreadable", "pixels", "environment", title="files that decode to other integers")
    for result in results:
        if result.fault is not None:
            table.add_row("-", "-", "-", f"{result.environment.name}: could not run ({escape(result.fault)})")
            continue
        table.add_row(
            _count(result.wrong, result.files),
            _count(result.unreadable, result.made),
            f"{1e6 * result.differing / max(1, result.pixels):.1f} in a million, by {result.largest}",
            result.environment.name,
        )
    table.caption = (
        "wrong: files of this process that decode to other integers there; unreadable: files made there that this "
        "process refuses; pixels: of the 8-bit values, those that differ, and by how many levels of 255"
    )
    return table


def crops(pictures: Sequence[tuple[str, Path]]) -> Iterator[Tensor]:
    """`CROPS` pieces, (3, 192, 256) uint8, from the middle and the corners of the photographs in turn."""
    height, width = CROP
    for number in range(CROPS):
        _, path = pictures[number % len(pictures)]
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        top, left = (
            (side - part) // 2 if number < len(pictures) else 0
            for side, part in zip(pixels.shape[:2], CROP, strict=True)
        )
        yield torch.from_numpy(pixels[top : top + height, left : left + width].copy()).permute(2, 0, 1)


def _count(wrong: int, total: int) -> str:
    return f"[{'red' if wrong else 'green'}]{wrong}[/] of {total}"


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column)
    return table
