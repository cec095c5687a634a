"""The Tecnick test set RGB_OR_1200x1200: 100 photographs of 1200x1200 pixels (Asuni and Giachetti 2014)."""

from __future__ import annotations

from datamodules.image_folder import ImageFolder


class Tecnick(ImageFolder):
    """`ImageFolder` that says how to get the set, which has no stable address for single files."""

    remedy = (
        "get the archive TESTIMAGES/SAMPLING/8BIT/RGB from https://testimages.org and put its 100 files "
        "RGB_OR_1200x1200_*.png there"
    )
