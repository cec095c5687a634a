"""The checkpoints that SIC's authors published, read by the names that `SicNetworks` knows.

Beside the codec's weights their files hold metrics' networks, constants, and buffers of the last picture they saw.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.checkpoints.state_dict import COMPRESSAI_TABLES, normalize, read_tensors
from lightning_modules.errors import CodingError
from lightning_modules.sic.group_context import causal_mask
from lightning_modules.sic.networks import sizes_of

PREFIX = "module."
"""In front of every name: the authors save what DistributedDataParallel wraps."""

DISCRIMINATOR = ("context_conv.", "dsc1.")

METRICS = ("lpips.", "dists.")

LAST_PARTS = ("attn_mask", "relative_position_index")
"""Constants, and masks for the size of the last picture: both follow from the grid at hand."""

CONSTANTS = ("target", "bound", "scale_bound")

CONTEXT_MASK = "context_model.layer.mask"
CONTEXT_WEIGHT = "context_model.layer.weight"

LOG = logging.getLogger(__name__)


class ImportReport(NamedTuple):
    """The report of an import.

    tensors, parameters: kept, of the codec. dropped: what else was in the file, how many of each kind.
    hidden: context weights that were not 0 although their mask hides them, and now are.
    """

    tensors: int
    parameters: int
    dropped: Mapping[str, int]
    hidden: int

    def __str__(self) -> str:
        dropped = ", ".join(f"{count} {kind}" for kind, count in sorted(self.dropped.items())) or "nothing"
        return (
            f"{self.tensors} tensors of the codec with {self.parameters:,} parameters; dropped {dropped}; "
            f"{self.hidden:,} context weights that its mask hides set to 0"
        )


class OfficialWeights(NamedTuple):
    """Weights with the report of their import. state: by the names of `SicNetworks`, for its `from_weights`."""

    state: dict[str, Tensor]
    report: ImportReport


def read_official(path: Path) -> OfficialWeights:
    """Read the codec in a file of the authors', and report what else the file held.

    Raises `CodingError`, one line, for a file that is missing, unreadable, of a discriminator or of something else.
    """
    tensors = {name.removeprefix(PREFIX): value for name, value in read_tensors(path).items()}
    if any(name.startswith(DISCRIMINATOR) for name in tensors):
        raise CodingError(
            f"{path}: holds a discriminator ({', '.join(DISCRIMINATOR)}...), which the authors' script can save over "
            "the codec's file; take another snapshot"
        )
    kinds = {name: kind for name in tensors if (kind := _dropped_as(name)) is not None}
    state = normalize({name: value for name, value in tensors.items() if name not in kinds})
    try:
        hidden = _hide(state)
    except CodingError as error:
        raise CodingError(f"{path}: {error}; choose the experiment that it was trained with") from error
    parameters = sum(value.numel() for value in state.values())
    return OfficialWeights(state, ImportReport(len(state), parameters, Counter(kinds.values()), hidden))


def official_weights(path: Path) -> dict[str, Tensor]:
    """Read what `ckpt=sic:PATH` names; a line of the log says what was left out."""
    weights = read_official(path)
    LOG.warning(f"{path}: {weights.report}")
    return weights.state


def _dropped_as(name: str) -> str | None:
    """Name the kind of a tensor that is no weight of the codec's; None for those that are."""
    last = name.rpartition(".")[2]
    if name.startswith(METRICS):
        return f"of {name.partition('.')[0].upper()}"
    if name == CONTEXT_MASK:
        return "context mask"
    if last in LAST_PARTS:
        return last
    if name.startswith(("entropy_bottleneck.", "gaussian_conditional.")):
        return "constants" if last in CONSTANTS else "coding tables" if last in COMPRESSAI_TABLES else None
    return None


def _hide(state: dict[str, Tensor]) -> int:
    """Set the context's weights that do not count to 0; return how many were not. A wrong shape is left as it is."""
    sizes = sizes_of(state)
    mask = causal_mask(sizes["groups"], sizes["widths"][-1] // sizes["groups"])
    weight = state.get(CONTEXT_WEIGHT)
    if weight is None or weight.shape != mask.shape:
        return 0
    state[CONTEXT_WEIGHT] = weight.masked_fill(~mask, 0.0)
    return int(torch.count_nonzero(weight) - torch.count_nonzero(state[CONTEXT_WEIGHT]))
