"""What a codec's networks compute for a pixel: thousands of multiplications and additions, counted while they run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import torch
from torch.utils.flop_counter import FlopCounterMode

from callbacks.run_file import write_run_file
from lightning_modules.codec import Codec
from lightning_modules.errors import CodingError

COMPLEXITY_NAME = "complexity.json"
KILO = 1000.0
LEAST = 64
"""Side in pixels of a picture that every codec takes."""


class Complexity(L.Callback):
    """Writes `complexity.json` into the run folder after a test: `encoder_kmac_per_pixel`, `decoder_kmac_per_pixel`.

    Counted of one square picture of `side` pixels that is really coded and decoded; a refinement of its latents is not.
    """

    def __init__(self, side: int = 256) -> None:
        self.side = side

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        codec: Codec | None = getattr(pl_module, "codec", None)
        if codec is None or not trainer.is_global_zero:
            return
        found = count(codec, self.side, pl_module.device)
        if found is not None:
            write_run_file(Path(trainer.default_root_dir) / COMPLEXITY_NAME, json.dumps(found, indent=2) + "\n")


@contextmanager
def frozen(codec: Codec) -> Iterator[None]:
    """Keep parameters from asking for gradients: the counter stumbles over views of them that were made without one."""
    asking = [parameter for parameter in codec.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


@torch.inference_mode(False)  # the counter hooks into autograd, which inference mode has none of
@torch.no_grad()
def count(codec: Codec, side: int, device: torch.device) -> dict[str, float] | None:
    """Count what convolutions and matrix products multiply; None for a codec that cannot code such a picture.

    The encoder's number has what the receiver computes, too, in order to know what it knows.
    """
    ramp = torch.linspace(0.0, 1.0, side, device=device)
    x = torch.stack([ramp.expand(side, side), ramp.expand(side, side).T, ramp.flip(0).expand(side, side)])[None]
    try:
        with frozen(codec):
            codec.encode(codec.analyze(x[..., :LEAST, :LEAST]))  # what is derived, or tried, once is not counted
            with FlopCounterMode(display=False) as encoder:
                coded = codec.encode(codec.analyze(x))
            with FlopCounterMode(display=False) as decoder:
                codec.decode(coded.sections, (side, side))
    except CodingError:
        return None
    counts = {"encoder": encoder.get_total_flops(), "decoder": decoder.get_total_flops()}
    return {f"{name}_kmac_per_pixel": flops / 2 / side**2 / KILO for name, flops in counts.items()}
