"""Reading a state dict whatever wrote it: CompressAI, its training scripts, DataParallel, Lightning, safetensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lightning_modules.codec import CodingError

WRAPPERS = ("state_dict", "network", "model_state_dict", "net", "model")
"""Keys under which training scripts keep the weights beside optimizer and step."""

PREFIXES = ("module.", "network.", "codec.", "model.", "net.", "_orig_mod.")
"""What DataParallel, compilation and wrapping modules put in front of every name."""

TABLE_BUFFERS = ("_quantized_cdf", "_offset", "_cdf_length", "scale_table")
"""CompressAI's derived tables: their sizes depend on when they were built, so they are always rebuilt."""

# CompressAI has named the bottleneck's parameters in three ways: _matrices.0, _matrix0, matrices.0.
_OLD_NAMES = (
    (re.compile(r"\._?matri(?:ces\.|x)(\d)$"), r".matrices.\1"),
    (re.compile(r"\._?bias(?:es\.|)(\d)$"), r".biases.\1"),
    (re.compile(r"\._?factor(?:s\.|)(\d)$"), r".factors.\1"),
)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Weights by CompressAI's names, from `.safetensors` or any torch file; nothing is ever unpickled.

    Raises `CodingError`, one line, when the file is missing, unreadable or holds no weights.
    """
    if not path.is_file():
        raise CodingError(f"{path}: no such checkpoint; give ckpt= a file, demo, or compressai:ARCHITECTURE/QUALITY")
    try:
        if path.suffix == ".safetensors":
            return normalize(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise CodingError(f"{path}: not a readable checkpoint ({reason}); is the file complete?") from error
    except Exception as error:  # pickle raises what it likes; weights_only refuses anything but tensors
        raise CodingError(f"{path}: refused, it holds more than tensors; save the state dict alone") from error
    return normalize(unwrap(content, path))


def unwrap(content: Any, path: Path) -> Mapping[str, Tensor]:
    """The mapping of names to tensors inside what a training script saved."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = {} if not isinstance(content, Mapping) else content
    tensors = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CodingError(f"{path}: holds no weights; expected a state dict, alone or under {' / '.join(WRAPPERS[:2])}")
    return tensors


def normalize(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip wrappers' prefixes, drop derived tables, and use today's names of the bottleneck's parameters."""
    names = list(state)
    stripped = 0
    while (prefix := _shared_prefix([name[stripped:] for name in names])) is not None:
        stripped += len(prefix)
        names = [name for name in names if name[stripped:]]
    result = {}
    for name, value in state.items():
        short = name[stripped:]
        if short.rsplit(".", 1)[-1] in TABLE_BUFFERS or short.startswith("tables."):
            continue
        for pattern, replacement in _OLD_NAMES:
            if short.startswith("entropy_bottleneck."):
                short = pattern.sub(replacement, short)
        result[short] = value
    return result


def _shared_prefix(names: list[str]) -> str | None:
    return next((prefix for prefix in PREFIXES if names and all(name.startswith(prefix) for name in names)), None)
