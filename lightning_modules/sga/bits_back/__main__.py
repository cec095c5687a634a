"""Begin a bits-back model with a trained hyperprior: python -m lightning_modules.sga.bits_back HYPERPRIOR START.pth

g_a, g_s, h_s and the means' half of h_a are taken over; variances begin at that of the rounding noise that they
replace, 1/12, and the density of z as at the start of every training. START.pth is for `ckpt=` of a training.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_modules.checkpoints.packaged_model import load_model
from lightning_modules.errors import CodingError
from lightning_modules.sga.bits_back.codec import BitsBackCodec

ROUNDING_VARIANCE = 1 / 12
LAST_OF_H_A = "h_a.4"


@torch.no_grad()
def from_hyperprior(state: Mapping[str, Tensor], **hyperparameters: Any) -> BitsBackCodec:
    """Make a bits-back codec of a hyperprior's weights, `state` by name, and its hyperparameters."""
    codec = BitsBackCodec(**hyperparameters)
    own = codec.state_dict()
    shared = {name: value for name, value in state.items() if name.partition(".")[0] in ("g_a", "g_s", "h_a", "h_s")}
    for kind, rest in (("weight", 0.0), ("bias", math.log(ROUNDING_VARIANCE))):
        name = f"{LAST_OF_H_A}.{kind}"
        shared[name] = torch.cat([shared[name], torch.full_like(shared[name], rest)])
    codec.load_state_dict(own | shared)
    return codec


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lightning_modules.sga.bits_back", description=__doc__)
    parser.add_argument("source", type=Path, help="packaged hyperprior")
    parser.add_argument("target", type=Path, help="state dict to write")
    options = parser.parse_args(arguments)
    try:
        hyperprior = load_model(options.source)
        torch.manual_seed(0)
        codec = from_hyperprior(hyperprior.state_dict(), **hyperprior.hyperparameters)
    except CodingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    torch.save(codec.state_dict(), options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
