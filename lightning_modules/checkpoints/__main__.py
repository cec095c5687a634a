"""Make a packaged model small: python -m lightning_modules.checkpoints RUN_DIR/codec.safetensors OUT.safetensors

Its weights are rounded to half precision, and those of integer networks to their 8 bits, which halves the file;
medians and coding tables follow the rounded weights, and with --calibrate the tables are fitted to pictures. What
comes out is a model of its own, with its own fingerprint.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_modules.capabilities import calibrate
from lightning_modules.checkpoints.packaged_model import load_model, round_for_storage, save_model
from lightning_modules.errors import CodingError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lightning_modules.checkpoints", description=__doc__)
    parser.add_argument("source", type=Path, help="packaged model, for example RUN_DIR/codec.safetensors")
    parser.add_argument("target", type=Path, help="file to write; PACKAGE/NAME-LMBDA.safetensors for ckpt=NAME")
    parser.add_argument(
        "--calibrate", nargs="+", type=Path, default=[], metavar="PICTURE", help="fit the tables to these"
    )
    parser.add_argument("--note", action="append", default=[], metavar="KEY=TEXT", help="kept in the file's header")
    options = parser.parse_args(arguments)
    notes = dict(note.partition("=")[::2] for note in options.note)
    try:
        codec = load_model(options.source)
        round_for_storage(codec)
        if options.calibrate:
            calibrate(codec, map(read_rgb, options.calibrate))
        save_model(codec, options.target, notes)
    except CodingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.target}: {options.target.stat().st_size} bytes")
    return 0


def read_rgb(path: Path) -> Tensor:
    """Return a picture's RGB, (1, 3, H, W) in [0, 1]."""
    try:
        pixels = np.array(Image.open(path).convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise CodingError(f"{path}: cannot be read for calibration ({error}); leave it out") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


if __name__ == "__main__":
    sys.exit(main())
