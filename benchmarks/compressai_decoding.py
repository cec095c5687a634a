"""CompressAI's decoder in one environment: python -m benchmarks.compressai_decoding NUMBER FOLDER CKPT

FOLDER/coded.pt holds what its encoder made elsewhere; the number of pictures that come out wrong is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from compressai.models import MeanScaleHyperprior
from torch import Tensor

from benchmarks.contenders import contenders
from lightning_modules.doctor.environments import Environment, environments

CODED = "coded.pt"


@torch.no_grad()
def encode(model: MeanScaleHyperprior, pictures: Sequence[Tensor], folder: Path) -> None:
    """Return y and z of each picture as CompressAI codes them, and the y_hat that a decoder owes."""
    coded = []
    for x in pictures:
        y = model.g_a(x)
        z = model.h_a(y)
        z_strings = model.entropy_bottleneck.compress(z)
        z_hat = model.entropy_bottleneck.decompress(z_strings, z.shape[-2:])
        scales, means = model.h_s(z_hat).chunk(2, 1)
        indexes = model.gaussian_conditional.build_indexes(scales)
        y_strings = model.gaussian_conditional.compress(y, indexes, means=means)
        coded.append({"z": z_hat, "string": y_strings[0], "symbols": torch.round(y - means).to(torch.int32)})
    torch.save(coded, folder / CODED)


@torch.no_grad()
def wrong_pictures(model: MeanScaleHyperprior, coded: Sequence[dict[str, Any]], environment: Environment) -> int:
    """Return how many pictures decode to other symbols than were coded."""
    h_s = model.h_s.to(memory_format=environment.layout)
    if environment.name == "torch.compile":
        h_s = torch.compile(h_s, dynamic=False)
    if "float64" in environment.name or "int64" in environment.name:
        h_s = h_s.double()
    wrong = 0
    for batch in _batches(coded, environment.batch_size):
        z = torch.cat([file["z"] for file in batch]).to(next(h_s.parameters()).dtype)
        scales, _ = h_s(z.contiguous(memory_format=environment.layout)).float().chunk(2, 1)
        for file, scale in zip(batch, scales.split(1), strict=True):
            indexes = model.gaussian_conditional.build_indexes(scale.contiguous())
            symbols = model.gaussian_conditional.decompress([file["string"]], indexes)
            wrong += not torch.equal(symbols.to(torch.int32), file["symbols"])
    return wrong


def _batches(coded: Sequence[dict[str, Any]], size: int) -> Iterator[Sequence[dict[str, Any]]]:
    """At most `size` pictures each, all of one shape."""
    shapes = sorted({tuple(file["z"].shape) for file in coded})
    for group in ([file for file in coded if tuple(file["z"].shape) == shape] for shape in shapes):
        yield from (group[start : start + size] for start in range(0, len(group), size))


def main(number: str, folder: str, ckpt: str) -> None:
    environment = environments()[int(number)]
    coded = torch.load(Path(folder) / CODED, weights_only=True)
    with environment.entered():
        print(wrong_pictures(contenders(ckpt).theirs, coded, environment))


if __name__ == "__main__":
    main(*sys.argv[1:])
