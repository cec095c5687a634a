"""Whether files decode to the same integers in every environment: code here, decode there, and the other way round.

    parent: pictures --> files, integers, pixels  --folder-->  child, one process an environment
    parent: result   <-- digests of integers, pixels that differ, files made there <--  python -m ...self_test

The environments differ in what a process can be started with, so each has a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.codec import Codec
from lightning_modules.coding.container import read
from lightning_modules.coding.picture import pack, unpack
from lightning_modules.doctor.environments import ENVIRONMENTS, Environment, environments
from lightning_modules.errors import CodingError
from lightning_modules.records import Integers, PixelFormat

MADE = 2
"""Pictures that an environment codes itself, per model, for this process to decode."""

MODULE = "lightning_modules.doctor.self_test"

RESULT = "result.json"
"""In the folder of an environment: digest of each file's integers, or the line that refused it, and pixel counts."""


class Result(NamedTuple):
    """What an environment made of `files` files.

    wrong: files that gave other integers, or none. unreadable: of `made` files made there, those refused here.
    pixels: 8-bit values decoded; differing: those unlike ours, by at most `largest`. fault: why it could not run.
    """

    environment: Environment
    files: int = 0
    wrong: int = 0
    made: int = 0
    unreadable: int = 0
    pixels: int = 0
    differing: int = 0
    largest: int = 0
    fault: str | None = None
    digests: tuple[str, ...] = ()

    @property
    def mismatches(self) -> int:
        """Return how many files decoded otherwise, there or here; one more where a process had to run and did not."""
        return self.wrong + self.unreadable + (self.fault is not None and not self.environment.optional)


class SelfTest:
    """Files of `pictures`, each (3, H, W) uint8, by each of the packaged `models`, in `folder`, which is ours to fill.

    shown: number of pictures, per model, whose pixels are compared, too: that takes most of the time.
    """

    def __init__(self, models: Sequence[Path], pictures: Sequence[Tensor], folder: Path, shown: int = 4) -> None:
        self.models, self.folder = [path.resolve() for path in models], folder.resolve()
        self.codecs = [load_model(path) for path in self.models]
        self.digests: dict[str, str] = {}
        for number, picture in enumerate(pictures):
            np.save(_made(self.folder / "pictures") / f"{number:03}.npy", picture.numpy())
        with ENVIRONMENTS[0].entered():
            for codec, model in zip(self.codecs, self.models, strict=True):
                self._code(codec, model.stem, pictures, shown)

    def _code(self, codec: Codec, model: str, pictures: Sequence[Tensor], shown: int) -> None:
        """The files of one model, the digests of their integers, and some of their pixels."""
        files = _made(self.folder / "files" / model)
        for number, picture in enumerate(pictures):
            data = coded(codec, picture)
            (files / f"{number:03}.lpc").write_bytes(data)
            (integers,) = integers_of(codec, [data])
            if isinstance(integers, CodingError):
                raise integers
            self.digests[f"{model}/{number:03}"] = digest(integers)
            if number < shown:
                np.save(files / f"{number:03}.npy", pixels(unpack(data, codec)[0]))

    def results(self, chosen: Sequence[Environment]) -> Iterator[Result]:
        """Yield results in the order of `chosen`, each as it is done."""
        for environment in chosen:
            yield self.result(environment)

    def result(self, environment: Environment, timeout: float = 1200.0) -> Result:
        """Run one environment's process and judge what it leaves."""
        folder = _made(self.folder / environment.name.replace(" ", "_"))
        number = environments().index(environment)
        process = subprocess.run(
            [sys.executable, "-m", MODULE, str(number), str(self.folder), str(folder), *map(str, self.models)],
            env={**os.environ, **environment.variables, "PYTHONWARNINGS": "ignore"},
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if process.returncode != 0 or not (folder / RESULT).is_file():
            lines = process.stderr.strip().splitlines() or [f"it ended with code {process.returncode}"]
            return Result(environment, fault=lines[-1])
        found = json.loads((folder / RESULT).read_text())
        made = [(codec, path) for codec, model in self._pairs() for path in (folder / model.stem).glob("*.lpc")]
        return Result(
            environment,
            files=len(self.digests),
            wrong=sum(found["digests"].get(name) != right for name, right in self.digests.items()),
            made=len(made),
            unreadable=sum(isinstance(integers_of(codec, [path.read_bytes()])[0], CodingError) for codec, path in made),
            digests=tuple(found["digests"].values()),
            **found["pixels"],
        )

    def _pairs(self) -> Iterator[tuple[Codec, Path]]:
        return zip(self.codecs, self.models, strict=True)


@torch.no_grad()
def coded(codec: Codec, picture: Tensor) -> bytes:
    """Return the file of a picture (3, H, W) uint8."""
    x = picture[None].to(next(codec.parameters()).device, torch.float32) / 255
    return pack(codec, codec.analyze(x), PixelFormat()).data


def integers_of(codec: Codec, files: Sequence[bytes]) -> list[Integers | CodingError]:
    """Return the integers of files of one picture size."""
    bitstreams = [read(data) for data in files]
    return codec.read_integers([bitstream.sections for bitstream in bitstreams], bitstreams[0].image_size)


def digest(integers: Integers) -> str:
    """SHA-256 over every integer that the decoder computes before its synthesis."""
    sha = hashlib.sha256()
    for name in sorted(integers):
        sha.update(name.encode() + np.ascontiguousarray(integers[name], dtype="<i8").tobytes())
    return sha.hexdigest()


def pixels(x_hat: Tensor) -> np.ndarray:
    """Return (3, H, W) uint8 of (1, 3, H, W), not clamped."""
    return np.asarray(x_hat[0].mul(255).round().clamp(0, 255).to("cpu", torch.uint8))


# ---- the process of one environment


@torch.no_grad()
def run_environment(environment: Environment, folder: Path, results: Path, models: Sequence[Path]) -> None:
    """Decode every file of `folder`, code some of its pictures, write what came of it to `results`."""
    digests: dict[str, str] = {}
    counts = {"pixels": 0, "differing": 0, "largest": 0}
    for model in models:
        codec = load_model(model).to(environment.device).to(memory_format=environment.layout)
        paths = sorted((folder / "files" / model.stem).glob("*.lpc"))
        for batch in _batches(paths, environment.batch_size):
            decoded = []
            for path, integers in zip(batch, integers_of(codec, [path.read_bytes() for path in batch]), strict=True):
                if isinstance(integers, CodingError):
                    digests[f"{model.stem}/{path.stem}"] = str(integers)
                    continue
                digests[f"{model.stem}/{path.stem}"] = digest(integers)
                if path.with_suffix(".npy").is_file():
                    decoded.append((path, integers))
            _count(codec, decoded, counts)
        for picture in sorted((folder / "pictures").glob("*.npy"))[:MADE]:
            made = _made(results / model.stem) / f"{picture.stem}.lpc"
            made.write_bytes(coded(codec, torch.from_numpy(np.load(picture))))
    (results / RESULT).write_text(json.dumps({"digests": digests, "pixels": counts}))


def _batches(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    """At most `size` files each, all of one picture size."""
    by_size: dict[tuple[int, int], list[Path]] = {}
    for path in paths:
        by_size.setdefault(read(path.read_bytes()).image_size, []).append(path)
    for group in by_size.values():
        yield from (group[start : start + size] for start in range(0, len(group), size))


def _count(codec: Codec, decoded: Sequence[tuple[Path, Integers]], counts: dict[str, int]) -> None:
    """Compare synthesised pixels with those that lie beside their files."""
    if not decoded:
        return
    paths, files = zip(*decoded, strict=True)
    size = read(paths[0].read_bytes()).image_size
    for path, x_hat in zip(paths, codec.synthesize(files, size).split(1), strict=True):
        difference = np.abs(pixels(x_hat).astype(int) - np.load(path.with_suffix(".npy")))
        counts["pixels"] += difference.size
        counts["differing"] += int((difference > 0).sum())
        counts["largest"] = max(counts["largest"], int(difference.max()))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main(arguments: Sequence[str]) -> None:
    number, folder, results, *models = arguments
    environment = environments()[int(number)]
    with environment.entered():
        run_environment(environment, Path(folder), Path(results), list(map(Path, models)))


if __name__ == "__main__":
    main(sys.argv[1:])
