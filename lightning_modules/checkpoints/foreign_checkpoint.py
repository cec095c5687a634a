"""Recognising a checkpoint by what it holds, whoever wrote it, and saying what became of each of its tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_modules.capabilities import checkpoint_formats, codes_weights_of
from lightning_modules.checkpoints.packaged_model import is_packaged, save_model
from lightning_modules.checkpoints.state_dict import (
    COMPILED,
    COMPRESSAI_TABLES,
    WRAPPERS,
    normalize,
    read_content,
    todays_name,
    unwrap,
)
from lightning_modules.codec import Codec
from lightning_modules.coding.picture import require_finite
from lightning_modules.errors import CodingError

LISTED = 4
"""Names that a line gives, of many."""

LIGHTNING = "pytorch-lightning_version"
AVERAGE = "n_averaged"
PARALLEL = "module."
MISFITS = (CodingError, KeyError, IndexError, RuntimeError, TypeError, ValueError)
"""What building a codec of weights that are not its own may raise."""


class Recognised(NamedTuple):
    """codec: in evaluation mode, with its tables. wrapping: how the file holds it, by its signs.

    kept, renamed, dropped: names in the file; renamed ones with their names in the codec. rewritten: the codec's names
    that the format's reader has made of others, where names and shapes are too unlike to be told one by one.
    """

    path: Path
    codec: Codec
    wrapping: Sequence[str]
    kept: Sequence[str]
    renamed: Mapping[str, str]
    dropped: Sequence[str]
    rewritten: int

    def lines(self) -> list[str]:
        """Say what was recognised, kept, renamed and dropped, a line each."""
        sizes = ", ".join(f"{name}={value}" for name, value in self.codec.hyperparameters.items())
        count = sum(parameter.numel() for parameter in self.codec.parameters())
        how = f"; {', '.join(self.wrapping)}" if self.wrapping else ""
        found = [f"recognised: {type(self.codec).__name__} ({sizes}), {count:,} parameters{how}"]
        if "lmbda" in self.codec.hyperparameters:
            found.append("lmbda: as lmbda= says, since weights do not tell what they were trained for")
        if self.rewritten:
            found.append(f"rewritten: {self.rewritten} tensors, from names and shapes of another program")
        else:
            found.append(f"kept: {len(self.kept)} tensors under their names")
        found.append(f"renamed: {_renamings(self.renamed)}")
        found.append(f"dropped: {_kinds(self.dropped)}")
        return found

    def package(self, path: Path) -> None:
        """Write the codec to a `.safetensors` file. Raises `CodingError` where that is something else already."""
        if path.suffix != ".safetensors":
            raise CodingError(f"output={path}: a packaged model is a .safetensors file; give it such a name")
        if path.exists() and not is_packaged(path):
            raise CodingError(f"output={path}: is there already and no packaged model; give another name")
        save_model(self.codec, path)


def recognise(path: Path, codec_classes: Sequence[type[Codec]], *, lmbda: float) -> Recognised:
    """Try the classes: the first that all weights in the file fit, then the first with a reader of others' files.

    lmbda: for codecs that keep one. Raises `CodingError`, one line, for a file that cannot be read, is packaged
    already, or fits none: with its first names.
    """
    if is_packaged(path):
        raise CodingError(f"{path}: is a packaged model already; name it as it is, with ckpt=")
    own = [one for one in codec_classes if codes_weights_of(one) is None]
    unread: CodingError | None = None
    tensors: dict[str, Tensor] = {}
    wrapping: list[str] = []
    try:
        content = read_content(path)
        tensors, wrapping = unwrap(content), wrapping_of(content)
    except CodingError as error:
        unread = error
    state = normalize(tensors)
    for codec_class in own if tensors else []:
        codec = _built(codec_class, state, lmbda)
        if codec is not None:
            return _told(path, codec, tensors, state, wrapping)
    for codec_class in own:
        for name, reader in checkpoint_formats(codec_class).items():
            try:
                state = dict(reader(path))
            except MISFITS:
                continue
            codec = _built(codec_class, state, lmbda)
            if codec is not None:
                return _told(path, codec, tensors, state, [f"a file of the format {name}", *wrapping])
    raise unread or CodingError(_unknown(path, tensors, own))


def wrapping_of(content: Any) -> list[str]:
    """Return signs of the program that wrote a file, in words."""
    signs = ["a checkpoint of Lightning"] if isinstance(content, Mapping) and LIGHTNING in content else []
    if not signs and isinstance(content, Mapping):
        signs += [f"weights under {key}" for key in WRAPPERS if isinstance(content.get(key), Mapping)][:1]
    names = unwrap(content).keys()
    if AVERAGE in names:
        signs.append("a moving average of weights")
    elif names and all(name.startswith(PARALLEL) for name in names):
        signs.append("saved from DataParallel")
    if any(COMPILED in name for name in names):
        signs.append("saved from a compiled model")
    if any(name.endswith(f".{table}") for name in names for table in COMPRESSAI_TABLES):
        signs.append("CompressAI's layers (as also of the authors of SGA+)")
    return signs


def _built(codec_class: type[Codec], state: Mapping[str, Tensor], lmbda: float) -> Codec | None:
    """Return a codec; None for weights of something else. Raises `CodingError` for its own that are not finite."""
    try:
        codec = codec_class.from_weights(state, lmbda=lmbda)
    except MISFITS:
        return None
    require_finite(dict(codec.named_parameters()))
    codec.update()
    return codec.eval()


def _told(
    path: Path, codec: Codec, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], wrapping: Sequence[str]
) -> Recognised:
    """Say which tensor of the file became which of the codec's."""
    origins = {name: _origin(name, value, tensors) for name, value in state.items()}
    renamed = {origin: name for name, origin in origins.items() if origin is not None and origin != name}
    kept = [name for name, origin in origins.items() if origin == name]
    used = {*renamed, *kept}
    dropped = [name for name in tensors if name not in used]
    rewritten = sum(origin is None for origin in origins.values())
    return Recognised(path, codec, wrapping, kept, renamed, dropped, rewritten)


def _origin(name: str, value: Tensor, tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name in the file of what is `name` now; among several, as of averages, the one with this value."""
    named = [one for one in tensors if f".{todays_name(one.replace(COMPILED, ''))}".endswith(f".{name}")]
    equal = [one for one in named if tensors[one].shape == value.shape and torch.equal(tensors[one], value)]
    return min(equal or named, key=len, default=None)


def _renamings(renamed: Mapping[str, str]) -> str:
    """Say which prefixes were taken off, with how many names had them; other names one by one."""
    prefixes = Counter(old.removesuffix(new) for old, new in renamed.items() if old.endswith(new))
    others = [f"{old} to {new}" for old, new in renamed.items() if not old.endswith(new)]
    return _some([f"{count} without {prefix}" for prefix, count in prefixes.items()] + others)


def _kinds(dropped: Sequence[str]) -> str:
    """Count tables, which are made anew, and the rest by the beginnings of the names."""
    tables = [name for name in dropped if name.rpartition(".")[2] in COMPRESSAI_TABLES]
    rest = Counter(_beginning(name.removeprefix(PARALLEL)) for name in dropped if name not in set(tables))
    made_anew = [f"{len(tables)} coding tables, which are made anew"] if tables else []
    return _some(made_anew + [f"{count} of {start}" for start, count in rest.most_common()])


def _beginning(name: str) -> str:
    first, dot, _ = name.partition(".")
    return f"{first}{dot}{'*' if dot else ''}"


def _some(parts: Sequence[str]) -> str:
    more = [f"{len(parts) - LISTED} more"] if len(parts) > LISTED else []
    return ", ".join([*parts[:LISTED], *more]) or "none"


def _unknown(path: Path, tensors: Mapping[str, Tensor], codec_classes: Sequence[type[Codec]]) -> str:
    known = ", ".join(one.__name__ for one in codec_classes)
    names = ", ".join(list(tensors)[:LISTED]) + (", ..." if len(tensors) > LISTED else "")
    what = f"its first tensors are {names}" if tensors else "it holds no tensors"
    return f"{path}: not recognised: {what}; known are weights of {known}"
