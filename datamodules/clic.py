"""The CLIC photographs (Challenge on Learned Image Compression), professional and mobile together."""

from __future__ import annotations

from datamodules.image_folder import ImageFolder


class Clic(ImageFolder):
    """`ImageFolder` over `train`, `valid` and `test`, each holding the unpacked archives of that split."""

    remedy = (
        "unpack the professional and mobile archives of CLIC 2020 (https://compression.cc) below the folders "
        "train, valid and test there, for instance as train/professional and train/mobile"
    )
