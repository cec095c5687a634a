"""A codec as one `.safetensors` file: weights, coding tables, integer networks, and how to build their class.

Tables and integers are part of the file and are never recomputed where it is loaded. The header names the class, its
hyperparameters and the fingerprint of everything the decoder computes with, which `.lpc` files carry, too.
Its checksum covers the rest, so that a damaged encoder, which no fingerprint tells, is never used either.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from lightning_modules.capabilities import implied_weights
from lightning_modules.checkpoints.state_dict import DERIVED, without_derived
from lightning_modules.checkpoints.trust import OWN, require_allowed
from lightning_modules.codec import Codec
from lightning_modules.coding.container import fingerprint
from lightning_modules.coding.picture import model_fingerprint, require_finite
from lightning_modules.errors import CodingError
from lightning_modules.system.atomic_file import write_atomically

HEADER = "latentpress-2"
"""The one entry of the safetensors header: our own, as JSON. Its name carries the version of this format."""

REQUIRED = ("codec", "hyperparameters", "fingerprint", "checksum")


@torch.no_grad()
def round_for_storage(codec: Codec) -> None:
    """Round every weight, in place, to what a small file holds: half precision, or what integer networks imply."""
    for parameter in codec.parameters():
        parameter.copy_(parameter.half().float())
    codec.update()
    derived = codec.decoder_state()
    codec.load_state_dict(implied_weights(type(codec), codec.state_dict() | derived), strict=False)
    codec.load_derived(derived)  # as it was: the integers stand for exactly these weights


def save_model(codec: Codec, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write `codec` to `path`; an interrupted write leaves what was there before.

    notes: free text kept in the file's header. Tensors that half precision holds exactly are stored so, and
    are the same float32 numbers once loaded. Raises `CodingError` when the file cannot be written.
    """
    require_finite(dict(codec.named_parameters()))
    decoder = codec.decoder_state()  # solves the medians, so it comes before the weights are read
    derived = {name: value for name, value in decoder.items() if name.startswith(DERIVED)}
    state = {name: _compact(value) for name, value in (without_derived(codec.state_dict()) | derived).items()}
    for name, value in implied_weights(type(codec), state).items():
        if torch.equal(value, _widen(state[name])):
            del state[name]
    metadata = {
        **(notes or {}),
        "codec": f"{type(codec).__module__}.{type(codec).__qualname__}",
        "hyperparameters": json.dumps(codec.hyperparameters),
        "fingerprint": model_fingerprint(codec).hex(),
    }
    metadata["checksum"] = _checksum(metadata, state)
    # One entry, because safetensors writes several in random order: equal models are equal files.
    data = serialize(state, {HEADER: json.dumps(metadata, sort_keys=True)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CodingError(
            f"{path}: the model cannot be saved ({reason}); make room there, or the folder writable"
        ) from error


def is_packaged(path: Path) -> bool:
    """Return whether `path` is a packaged model; false for every other file, and for none at all."""
    try:
        read_metadata(path)
    except CodingError:
        return False
    return True


def read_metadata(path: Path) -> dict[str, str]:
    """Return the header of a model file; raises `CodingError` when it is not one of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(HEADER, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise CodingError(f"{path}: not a readable model file ({error}); is it complete?") from error
    if not isinstance(metadata, dict) or any(not isinstance(metadata.get(key), str) for key in REQUIRED):
        raise CodingError(f"{path}: not a packaged model of latentpress; make one with task=fit")
    return metadata


def load_model(path: Path) -> Codec:
    """Return a packaged codec in evaluation mode, checked against its checksum and its fingerprint.

    Raises `CodingError`, one line, for a file that is damaged, not ours, or of a version with other codecs.
    """
    metadata = read_metadata(path)
    state = _read_tensors(path)
    if metadata.pop("checksum") != _checksum(metadata, state):
        raise CodingError(f"{path}: damaged, its checksum disagrees; delete it and get another copy")
    codec_class = _codec_class(metadata["codec"], path)
    state = {name: _widen(value) for name, value in state.items()}
    try:
        hyperparameters = json.loads(metadata["hyperparameters"])
        weights = implied_weights(codec_class, state) | without_derived(state)
        codec = codec_class.from_weights(weights, **hyperparameters)
        codec.load_derived(state)
    except (CodingError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CodingError(
            f"{path}: does not fit the {codec_class.__name__} of this version ({error}); upgrade latentpress"
        ) from error
    try:
        require_finite(dict(codec.named_parameters()))
        found = model_fingerprint(codec).hex()
    except CodingError as error:
        raise CodingError(f"{path}: {error}") from error
    if found != metadata["fingerprint"]:
        raise CodingError(
            f"{path}: its decoder has the fingerprint {found} here, not {metadata['fingerprint']}: "
            "damaged, or of another version; get another copy, or upgrade latentpress"
        )
    return codec.eval()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise CodingError(f"{path}: not a readable model file ({error}); is it complete?") from error


def _checksum(metadata: Mapping[str, str], state: Mapping[str, Tensor]) -> str:
    """Return 64 bits, in hex, over the header and the tensors as stored."""
    header = json.dumps(dict(metadata), sort_keys=True).encode()
    return hashlib.sha256(header + fingerprint(state)).hexdigest()[:16]


def _codec_class(name: str, path: Path) -> type[Codec]:
    module_name, _, class_name = name.rpartition(".")
    try:
        require_allowed(name)
    except CodingError as error:
        raise CodingError(f"{path}: refused, it names {error}") from error
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        package = name.partition(".")[0]
        remedy = "upgrade latentpress" if package == OWN else f"install {package}, or name its folder in PYTHONPATH"
        raise CodingError(f"{path}: needs the codec {name}, which is not here ({error}); {remedy}") from error
    if not (isinstance(found, type) and issubclass(found, Codec)) or inspect.isabstract(found):
        raise CodingError(f"{path}: refused, {name} is not a codec")
    return found


def _compact(value: Tensor) -> Tensor:
    """Return a copy, in half precision if that loses nothing."""
    value = value.detach().cpu()
    half = value.half() if value.dtype == torch.float32 else value
    return (half if torch.equal(half.to(value.dtype), value) else value).clone(memory_format=torch.contiguous_format)


def _widen(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value
