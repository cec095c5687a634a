"""Our files beside classical codecs at the same number of bytes: a table, and a picture to look at.

Bytes are lengths of whole files. A classical codec may use as many as our file has, those of an alpha channel
or colour profile included, though it carries neither. PSNR is of 8-bit decoded pixels in RGB (gray pictures:
three equal channels), over the whole picture; means are over pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lightning_modules.classical.comparison_figure import draw_comparison, write_png
from lightning_modules.classical.comparison_table import comparison_table
from lightning_modules.classical.measuring import Compared, Measured, compare, find_pictures, printable
from lightning_modules.classical.pillow_codecs import ClassicalCodec, MissingCodec, standard_codecs
from lightning_modules.records import ImageSize

PICTURE_NAME = "comparison.png"


class Outcome(NamedTuple):
    """table: to print. picture: path of the PNG. rows: the numbers of both, in the order of the pictures."""

    table: Table
    picture: Path
    rows: list[Measured]


class Comparison:
    """Compares, prints, draws.

    codecs: those to compare with; None: the standard ones. crop_size: (height, width) of what is drawn of a
    picture, in its pixels. num_pictures: how many are drawn, those with the clearest edges.
    """

    def __init__(
        self,
        codecs: Sequence[ClassicalCodec | MissingCodec] | None = None,
        crop_size: ImageSize = (200, 160),
        num_pictures: int = 3,
        console: Console | None = None,
    ) -> None:
        if min(*crop_size, num_pictures) < 1:
            raise ValueError(f"crop_size={crop_size}, num_pictures={num_pictures}: each number must be at least 1")
        given = standard_codecs() if codecs is None else codecs
        self.codecs = [codec for codec in given if isinstance(codec, ClassicalCodec)]
        self.missing = [codec for codec in given if isinstance(codec, MissingCodec)]
        self.crop_size = crop_size
        self.num_pictures = num_pictures
        self.console = console or Console()

    def run(self, originals: Path, files: Path, decoded: Path, output: Path) -> Outcome:
        """Compare every `.lpc` below `files`, draw `output/comparison.png`, print the table and that path.

        Raises `CodingError` when there is nothing to compare, a counterpart is missing, or the picture cannot
        be written.
        """
        pictures = find_pictures(Path(originals), Path(files), Path(decoded))
        rows = compare(self._with_progress(pictures), self.codecs)
        table = comparison_table(rows, self.codecs, self.missing)
        self.console.print(table)
        picture = Path(output) / PICTURE_NAME
        write_png(picture, draw_comparison(rows, self.crop_size, self.num_pictures))
        self.console.print(Text(f"picture: {printable(str(picture))}"), soft_wrap=True)
        return Outcome(table, picture, rows)

    def _with_progress(self, pictures: Sequence[Compared]) -> Iterator[Compared]:
        """The pictures, with a bar that moves as they are asked for."""
        columns = (
            SpinnerColumn(),
            TextColumn("comparing {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task("", total=len(pictures))
            for picture in pictures:
                progress.update(task, description=printable(picture.name))
                yield picture
                progress.advance(task)
