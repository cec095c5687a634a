"""Reading weights whatever wrote them: CompressAI, training scripts, DataParallel, Lightning, safetensors.

file --torch.load, safetensors--> content --unwrap--> tensors by name --normalize--> the codec's own names
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_modules.errors import CodingError

WRAPPERS = ("state_dict", "network", "model_state_dict", "net", "model")
"""Keys under which training scripts keep the weights beside optimizer and step."""

OWN_PREFIXES = ("codec.", "module.")
"""Where our LightningModules, DataParallel and weight averaging keep the codec, beside names of their own."""

SHARED_PREFIXES = ("network.", "model.", "net.")
"""Taken off only when every name has them: a codec's own layers may be called so."""

DERIVED = ("tables.", "exact.")
"""Coding tables and integer networks of a packaged model (`Codec.decoder_state`)."""

COMPRESSAI_TABLES = ("_quantized_cdf", "_offset", "_cdf_length", "scale_table")
"""CompressAI's coding tables. Their sizes depend on when they were built, and ours replace them."""

MAX_WRAPPING = 8
"""Wrappers inside wrappers that are opened; a file can also say that one holds itself."""

COMPILED = "_orig_mod."
"""In names of a compiled module."""

# CompressAI has named the bottleneck's parameters in three ways: _matrices.0, _matrix0, matrices.0.
_BOTTLENECK = re.compile(r"(entropy_bottleneck\.)_?(matri|bias|factor)[a-z]*\.?(\d+)$")
_TODAYS_NAMES = {"matri": "matrices", "bias": "biases", "factor": "factors"}


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return weights by the names that `Codec.from_weights` knows; errors as `read_tensors`."""
    return normalize(read_tensors(path))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return tensors by the names in the file, `.safetensors` or any torch file.

    No code in the file is run: torch refuses all but tensors and plain values. Raises `CodingError`, one
    line, when the file is missing, unreadable, refused, or holds no weights.
    """
    tensors = unwrap(read_content(path))
    if not tensors:
        raise CodingError(
            f"{path}: holds no weights; save the model's state dict, alone or as {' or '.join(WRAPPERS[:2])}"
        )
    return tensors


def read_content(path: Path) -> Any:
    """Return what a script has saved, as it is in the file: tensors and plain values. Errors as `read_tensors`."""
    try:
        if path.is_dir():
            raise CodingError(f"{path}: is a folder; give the checkpoint file in it with ckpt=")
        if not path.is_file():
            raise CodingError(
                f"{path}: no such checkpoint; ckpt= takes a file, demo, or compressai:ARCHITECTURE/QUALITY"
            )
        return _load(path)
    except CodingError:
        raise
    except PermissionError as error:
        raise CodingError(f"{path}: may not be read; change its permissions") from error
    except Exception as error:  # damaged pickles raise KeyError, struct.error, AssertionError and many more
        raise CodingError(f"{path}: {_fault(error)}") from error


def unwrap(content: Any) -> dict[str, Tensor]:
    """Return the tensors by name inside what a training script saved; empty when there are none."""
    for _ in range(MAX_WRAPPING):
        if not isinstance(content, Mapping):
            return {}
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def normalize(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return one codec's weights by today's names.

    There are no prefixes of wrappers, none of their own tensors, nothing derived.
    """
    state = {name.replace(COMPILED, ""): value for name, value in state.items()}
    while (prefix := _wrapper_prefix(state)) is not None:
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return {todays_name(name): value for name, value in without_derived(state).items()}


def without_derived(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what was learned: all but tables and integer networks, ours and CompressAI's."""
    return {
        name: value
        for name, value in state.items()
        if not name.startswith(DERIVED) and name.rpartition(".")[2] not in COMPRESSAI_TABLES
    }


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


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on a damaged file, which gets its one line from us
        return torch.load(path, map_location="cpu", weights_only=True)


def _fault(error: Exception) -> str:
    """Say fault and remedy, on one line."""
    forbidden = re.search(r"GLOBAL ([\w.]+)", str(error))
    if forbidden is not None:
        return (
            f"refused, reading it would run code ({forbidden[1]}): only tensors and plain values are read; "
            "have its author save the state dict alone"
        )
    return "damaged, or not a checkpoint; get another copy of it"


def _wrapper_prefix(state: Mapping[str, Tensor]) -> str | None:
    own = (prefix for prefix in OWN_PREFIXES if any(name.startswith(prefix) for name in state))
    shared = (prefix for prefix in SHARED_PREFIXES if state and all(name.startswith(prefix) for name in state))
    return next(own, None) or next(shared, None)


def todays_name(name: str) -> str:
    """Rename a parameter of the bottleneck, whenever CompressAI named it; other names are as they are."""
    return _BOTTLENECK.sub(lambda match: f"{match[1]}{_TODAYS_NAMES[match[2]]}.{match[3]}", name)
