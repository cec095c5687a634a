"""A few photographs that are installed with scikit-image, so that a first try needs no download.

Origin and licence (documented there, in `skimage.data`): astronaut by NASA and rocket by SpaceX, both public
domain; camera by Lav Varshney, chelsea by Stefan van der Walt, coffee by Rachel Michetti, all three CC0.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from datamodules.file_listing import NamedFile
from datamodules.image_folder import ImageFolder, Roots
from lightning_modules.errors import CodingError

NAMES = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg")


class Sample(ImageFolder):
    """`ImageFolder` in which every use without folders of its own has the sample photographs."""

    def __init__(
        self,
        *,
        train: Roots = None,
        val: Roots = None,
        test: Roots = None,
        input: Roots = None,
        **settings: Any,
    ) -> None:
        sample = [path for _, path in sample_images()]
        super().__init__(
            train=train or sample, val=val or sample, test=test or sample, input=input or sample, **settings
        )


def sample_images() -> list[NamedFile]:
    """Return (name, path) of the photographs: four in colour, one gray."""
    package = find_spec("skimage")  # found, not imported: that takes a second
    folder = Path(package.origin).parent / "data" if package and package.origin else None
    if folder is None or not all((folder / name).is_file() for name in NAMES):
        raise CodingError("the sample photographs are missing; pip install --force-reinstall scikit-image")
    return [(name, folder / name) for name in NAMES]


def copy_sample(folder: str | Path) -> Path:
    """Put the photographs into `folder` as PNG, where people can look at them; returns it.

    Their colour profiles (all sRGB, 2.6 kB each) stay behind, so that codecs are compared by pixels alone.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for _, path in sample_images():
        with Image.open(path) as picture:
            picture.save(folder / f"{path.stem}.png", icc_profile=None)
    return folder
