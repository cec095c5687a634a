"""A codec as one `.safetensors` file: weights, coding tables, and how to build the class that holds them.

The tables are part of the file and are never recomputed where it is loaded; the fingerprint of everything the
decoder computes with is stored beside them and checked.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from lightning_modules.checkpoints.state_dict import normalize
from lightning_modules.codec import Codec, CodingError
from lightning_modules.coding.picture import model_fingerprint

FORMAT = "latentpress-1"
ROOMS = "lightning_modules."
"""Only classes of our own rooms are built from what a model file names."""


def round_to_half(codec: Codec) -> None:
    """Round every weight to the nearest half-precision number, in place: the packaged file is then half as big."""
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.copy_(parameter.half().float())
    codec.update()


def save_model(codec: Codec, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write `codec` to `path`, under a temporary name first. notes: free text kept in the file's header.

    Tensors that half precision holds exactly are stored so; loading gives back the same float32 numbers.
    """
    derived = {name: value for name, value in codec.decoder_state().items() if name.startswith("tables.")}
    state = normalize(codec.state_dict()) | derived
    metadata = {
        **(notes or {}),
        "format": FORMAT,
        "codec": f"{type(codec).__module__}.{type(codec).__qualname__}",
        "hyperparameters": json.dumps(codec.hyperparameters),
        "fingerprint": model_fingerprint(codec).hex(),
    }
    data = serialize({name: _compact(value) for name, value in state.items()}, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def read_metadata(path: Path) -> dict[str, str]:
    """The header of a model file; `CodingError` when it is not one of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CodingError(f"{path}: not a readable model file ({error}); is it complete?") from error
    if metadata.get("format") != FORMAT:
        raise CodingError(f"{path}: not a packaged model of latentpress")
    return dict(metadata)


def load_model(path: Path) -> Codec:
    """A packaged codec in evaluation mode, checked against its fingerprint."""
    metadata = read_metadata(path)
    with safe_open(path, framework="pt") as file:
        state = {name: _widen(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (not a dict)
    weights = {name: value for name, value in state.items() if not name.startswith("tables.")}
    codec = _codec_class(metadata["codec"], path).from_weights(weights, **json.loads(metadata["hyperparameters"]))
    codec.load_derived(state)
    found = model_fingerprint(codec).hex()
    if found != metadata["fingerprint"]:
        raise CodingError(f"{path}: damaged, its fingerprint is {found}, not {metadata['fingerprint']}; fetch it again")
    return codec.eval()


def _codec_class(name: str, path: Path) -> type[Codec]:
    module_name, _, class_name = name.rpartition(".")
    if not module_name.startswith(ROOMS):
        raise CodingError(f"{path}: refused, it names a codec outside latentpress: {name}")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise CodingError(f"{path}: needs the codec {name}, which this version lacks; upgrade latentpress") from error
    if not (isinstance(found, type) and issubclass(found, Codec)):
        raise CodingError(f"{path}: refused, {name} is not a codec")
    return found


def _compact(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    if value.dtype == torch.float32 and torch.equal(value.half().float(), value):
        return value.half()
    return value


def _widen(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value
