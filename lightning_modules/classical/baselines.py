"""Classical codecs over a ladder of qualities: a table for each codec, of files that were written and read again.

Rates are of whole files, quality of the decoded 8-bit pixels; a row says which library at which settings made it.
The pictures are coded without alpha, colour profile and EXIF, so that pixels alone are compared.
"""

from __future__ import annotations

import csv
import io
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_modules.classical.pillow_codecs import ClassicalCodec, MissingCodec
from lightning_modules.classical.ycbcr import to_rgb, to_ycbcr
from lightning_modules.errors import CodingError
from lightning_modules.records import REPORT_COLUMNS, Failure, PixelFormat, SourceImage
from lightning_modules.system.atomic_file import describe_fault, write_atomically

COLUMNS = (*REPORT_COLUMNS, "codec", "setting", "settings")
"""setting: a rung of the ladder. settings: versions and fixed options of the codec."""

Quality = Callable[[Tensor, Tensor, PixelFormat], Mapping[str, float]]
"""(x, x_hat, format), each (1, 3, H, W) in [0, 1] -> `psnr`, `ms_ssim`."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""(x, x_hat) -> (1,): a further column."""


class Version(NamedTuple):
    """What came back of a picture. num_bytes: of its file; None where there is none."""

    setting: str
    decoded: Image.Image
    num_bytes: int | None
    encode_seconds: float
    decode_seconds: float


class Baseline(Protocol):
    """name, settings: for the table. missing: why it cannot be measured here; None where it can."""

    name: str
    settings: str
    missing: str | None

    def versions(self, image: Image.Image) -> Iterator[Version]:
        """Return the versions of one picture, L or RGB."""


class Provenance(Protocol):
    def write(self, run_folder: Path, stage: str) -> None:
        """Return what explains a folder's numbers a year later."""


class Ladder:
    """A codec at some of its qualities, worst first; None: at all that it has."""

    def __init__(self, codec: ClassicalCodec | MissingCodec, qualities: Sequence[int] | None = None) -> None:
        self.name = codec.name
        self.missing = codec.reason if isinstance(codec, MissingCodec) else None
        self.settings = "" if isinstance(codec, MissingCodec) else codec.settings
        if isinstance(codec, ClassicalCodec):
            self.codec, self.qualities = codec, list(codec.qualities if qualities is None else qualities)
            wrong = [quality for quality in self.qualities if quality not in codec.qualities]
            if wrong:
                raise CodingError(f"{codec.name} has no quality {wrong[0]}; its are {codec.qualities}")

    def versions(self, image: Image.Image) -> Iterator[Version]:
        for quality in self.qualities:
            start = time.perf_counter()
            data = self.codec.encode(image, quality)
            encoded = time.perf_counter()
            decoded = self.codec.decode(data)
            yield Version(str(quality), decoded, len(data), encoded - start, time.perf_counter() - encoded)


class ColourRoundTrip:
    """No codec at all: to YCbCr of 8 bits and back, the ceiling of every codec that is given such pictures."""

    name = "colour round trip"
    settings = "no codec: RGB to YCbCr (BT.709, full range, 8 bits, 4:4:4, rounded) and back"
    missing = None

    def versions(self, image: Image.Image) -> Iterator[Version]:
        rgb = np.asarray(image.convert("RGB"))
        yield Version("no codec", Image.fromarray(to_rgb(to_ycbcr(rgb))), None, 0.0, 0.0)


class Baselines:
    """Measures those of `codecs` that this installation has, and says which it has not.

    codecs: by the name of their folder. pictures: read one by one; refused ones fail alone. distances: further columns
    by name.
    """

    def __init__(
        self,
        pictures: Callable[[], Iterable[SourceImage | Failure]],
        codecs: Mapping[str, Baseline],
        quality: Quality,
        provenance: Provenance,
        distances: Mapping[str, Distance] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.pictures = pictures
        self.codecs = codecs
        self.quality = quality
        self.provenance = provenance
        self.distances = dict(distances or {})
        self.say = say

    def run(self, output: Path) -> list[Path]:
        """Make a folder below `output` for each, `NAME/results.csv`; one that is there with these settings stays.

        Raises `CodingError` when nothing can be read or a table cannot be written.
        """
        written = []
        for name, baseline in self.codecs.items():
            path = output / name / "results.csv"
            if baseline.missing is not None:
                self.say(f"{baseline.name} is left out: {baseline.missing}")
            elif self._is_done(path, baseline):
                self.say(f"{baseline.name}: {path} is there already")
                written.append(path)
            else:
                self.say(f"{baseline.name}: {baseline.settings}")
                written.append(_write(path, self.table(baseline)))
                shutil.rmtree(path.parent / "provenance", ignore_errors=True)  # of a table that was there before
                self.provenance.write(path.parent, "baselines")
        return written

    def table(self, baseline: Baseline) -> str:
        """CSV, a row for each picture and rung, picture by picture."""
        rows = [row for picture in self.pictures() for row in self.rows(baseline, picture)]
        if not any(row["status"] == "ok" for row in rows):
            raise CodingError(next((row["error"] for row in rows), "no picture; give a folder of pictures with input="))
        text = io.StringIO()
        writer = csv.DictWriter(text, [*COLUMNS, *self.distances], lineterminator="\n", restval="")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: round(v, 6) if isinstance(v, float) else v for name, v in row.items()})
        return text.getvalue()

    def rows(self, baseline: Baseline, picture: SourceImage | Failure) -> Iterator[dict[str, Any]]:
        common = {"name": picture.name, "codec": baseline.name, "settings": baseline.settings}
        if isinstance(picture, Failure):
            yield common | {"status": "failed", "error": picture.error}
            return
        versions = baseline.versions(as_pillow(picture))
        try:
            for version in versions:
                yield common | self._row(picture, version)
        except (OSError, ValueError, RuntimeError) as error:
            yield common | {"status": "failed", "error": f"{picture.name}: {baseline.name} cannot code it ({error})"}

    def _row(self, picture: SourceImage, version: Version) -> dict[str, Any]:
        gray = picture.format.gray
        x, x_hat = as_tensor(as_pillow(picture)), as_tensor(version.decoded.convert("L" if gray else "RGB"))
        height, width = x.shape[-2:]
        size = (
            {}
            if version.num_bytes is None
            else {"bytes": version.num_bytes, "bpp": 8 * version.num_bytes / (height * width)}
        )
        numbers = dict(self.quality(x, x_hat, PixelFormat(gray=gray)))
        with torch.no_grad():
            numbers |= {name: float(distance(x, x_hat)) for name, distance in self.distances.items()}
        times = {"encode_seconds": version.encode_seconds, "decode_seconds": version.decode_seconds}
        defined = {name: value for name, value in numbers.items() if not math.isnan(value)}
        return {"status": "ok", "setting": version.setting, "height": height, "width": width} | size | defined | times

    def _is_done(self, path: Path, baseline: Baseline) -> bool:
        """Return whether the table is of this version, these rungs and pictures, with all further columns."""
        if not path.is_file():
            return False
        names = [picture.name for picture in self.pictures()]
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        rungs = list(map(str, baseline.qualities)) if isinstance(baseline, Ladder) else None
        return (
            bool(rows)
            and names == list(dict.fromkeys(row["name"] for row in rows))
            and {row["settings"] for row in rows} == {baseline.settings}
            and self.distances.keys() <= rows[0].keys()
            and rungs in (None, list(dict.fromkeys(row["setting"] for row in rows if row["setting"])))
        )


def as_pillow(picture: SourceImage) -> Image.Image:
    """Return 8-bit pixels: mode L for a gray picture, RGB otherwise, without alpha."""
    levels = (picture.x[0] * 255.0).round().clamp(0.0, 255.0).byte().numpy()
    return Image.fromarray(levels[0] if picture.format.gray else np.ascontiguousarray(levels.transpose(1, 2, 0)))


def as_tensor(image: Image.Image) -> Tensor:
    """Return (1, 3, H, W) in [0, 1]; gray has three equal channels."""
    levels = np.array(image.convert("RGB"), dtype=np.float32) / np.float32(255.0)
    return torch.from_numpy(levels.transpose(2, 0, 1)[None].copy())


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise CodingError(f"{path}: cannot be written: {describe_fault(error)}") from None
    return path
