"""Downsampled ImageNet (van den Oord et al. 2016): 1.28 million pictures of 32x32, as PNG."""

from __future__ import annotations

from datamodules.imagenet import ImageNet


class ImageNet32(ImageNet):
    """`ImageNet` over the pictures of the published archives, which need no cropping: `crop` is their side."""

    remedy = "unpack train_32x32.tar and valid_32x32.tar of the downsampled ImageNet there"
