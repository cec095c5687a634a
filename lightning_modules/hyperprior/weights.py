"""Loading a codec of this family from named weights, or saying in one line why that cannot be."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from lightning_modules.codec import CodingError

LAST_OF_G_A = "g_a.6.weight"
"""(M, N, 5, 5): tells both sizes of a model."""


def sizes(state: Mapping[str, Tensor], kind: str) -> tuple[int, int]:
    """N and M, read off the last layer of g_a. kind: what the weights should be, for the error."""
    last = state.get(LAST_OF_G_A)
    if last is None or last.ndim != 4:
        raise CodingError(f"not a {kind}: it has no {LAST_OF_G_A} of 4 dimensions")
    return last.shape[1], last.shape[0]


def load_weights(codec: nn.Module, state: Mapping[str, Tensor], kind: str) -> None:
    """Copy `state` into the codec. Raises `CodingError` where a name or a shape disagrees."""
    wanted = dict(codec.named_parameters())  # buffers are constants and tables: none of them is learned
    faults = [f"missing {name}" for name in wanted if name not in state]
    faults += [f"unexpected {name}" for name in state if name not in codec.state_dict()]
    faults += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CodingError(f"not a {kind} of this shape: {'; '.join(faults[:3])}{more}")
    codec.load_state_dict({name: state[name] for name in wanted}, strict=False)
