"""CompressAI as a program that codes files: what a folder job is measured against.

python -m benchmarks.compressai_codec encode STATE OUTPUT PICTURE...
python -m benchmarks.compressai_codec decode STATE OUTPUT FILE...

The calls are CompressAI's own; the file holds the picture's size and the two strings with their lengths.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import torch
from compressai.models import MeanScaleHyperprior
from PIL import Image

HEADER = struct.Struct("<4I")
STRIDE = 64


@torch.no_grad()
def main(command: str, state: str, output: str, *files: str) -> None:
    """Load the model once, then code each file."""
    model = load(Path(state))
    Path(output).mkdir(parents=True, exist_ok=True)
    for file in map(Path, files):
        if command == "encode":
            (Path(output) / f"{file.name}.bin").write_bytes(encode(model, file))
        else:
            decode(model, file.read_bytes(), (Path(output) / file.name).with_suffix(".png"))


def load(path: Path) -> MeanScaleHyperprior:
    """Return a model with its coding tables, as saved after `update`."""
    model: MeanScaleHyperprior = MeanScaleHyperprior.from_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def encode(model: MeanScaleHyperprior, path: Path) -> bytes:
    """Return the bytes of a picture whose sides are multiples of 64."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255.0
    (y_string,), (z_string,) = model.compress(x)["strings"]
    return HEADER.pack(x.shape[-2], x.shape[-1], len(y_string), len(z_string)) + y_string + z_string


def decode(model: MeanScaleHyperprior, data: bytes, path: Path) -> None:
    """Return the inverse of `encode`, up to what the codec loses; writes a PNG."""
    height, width, y_length, z_length = HEADER.unpack_from(data)
    y_string = data[HEADER.size : HEADER.size + y_length]
    z_string = data[HEADER.size + y_length : HEADER.size + y_length + z_length]
    shape = (height // STRIDE, width // STRIDE)
    x_hat = model.decompress([[y_string], [z_string]], shape)["x_hat"]
    Image.fromarray(x_hat[0].permute(1, 2, 0).mul(255.0).round().byte().numpy()).save(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
