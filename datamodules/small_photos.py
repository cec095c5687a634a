"""Photographs for a training on a CPU: CID22, CLIC 2025 and BSDS500, with Tecnick and Kodak to measure by."""

from __future__ import annotations

from datamodules.image_folder import ImageFolder


class SmallPhotos(ImageFolder):
    """`ImageFolder` that says which set belongs into which folder."""

    remedy = (
        "put photographs there, those of CID22 into train_cid22, of CLIC 2025 into train_clic2025, of BSDS500 into "
        "train_bsds500, of Tecnick into tecnick and of Kodak into kodak; or name folders of your own with "
        "datamodule=image_folder"
    )
