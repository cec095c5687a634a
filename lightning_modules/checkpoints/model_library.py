"""Finding the model that a file was made with, by the fingerprint in its header."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from lightning_modules.checkpoints.packaged_model import load_model, read_metadata, save_model
from lightning_modules.codec import Codec, Decoding
from lightning_modules.coding.container import read
from lightning_modules.coding.picture import model_fingerprint
from lightning_modules.errors import CodingError, WrongModel


class ModelLibrary:
    """Models by fingerprint: those given, then packaged files in `folders`, each loaded when first needed.

    When several folders hold a model, the first one's file is taken. decodings: told to each that is loaded.
    """

    def __init__(
        self, folders: Sequence[Path], codecs: Sequence[Codec] = (), decodings: Sequence[Decoding] = ()
    ) -> None:
        self.folders = list(folders)
        self.decodings = list(decodings)
        self.loaded = {model_fingerprint(codec): codec for codec in codecs}

    def find(self, data: bytes) -> Codec:
        """Return the codec that made the `.lpc` bytes; raises `WrongModel` when no known model did."""
        wanted = read(data, leading=1).fingerprint
        if wanted not in self.loaded:
            paths = self._paths()
            if wanted.hex() not in paths:
                known = sorted({*paths, *(mark.hex() for mark in self.loaded)})
                have = ", ".join(known[:4]) + (f" and {len(known) - 4} more" if len(known) > 4 else "")
                raise WrongModel(
                    f"needs model {wanted.hex()}, have {have or 'none'}; "
                    "give the checkpoint that made the file with ckpt="
                )
            with torch.inference_mode(False):  # weights born in inference mode could never be trained or compared
                codec = load_model(paths[wanted.hex()])
                for decoding in self.decodings:
                    decoding(codec)
                self.loaded[wanted] = codec
        return self.loaded[wanted]

    def _paths(self) -> dict[str, Path]:
        nearest_last = reversed(self.folders)
        return {mark: path for folder in nearest_last for mark, path in packaged_models(folder).items()}


def packaged_models(folder: Path) -> dict[str, Path]:
    """Return model files of a folder by fingerprint, in hex. Other files, and unreadable ones, are passed over."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with suppress(CodingError):
            found[read_metadata(path)["fingerprint"]] = path
    return found


def remember(codec: Codec, folder: Path, packaged: Path) -> None:
    """Keep a model that makes files here as FOLDER/FINGERPRINT.safetensors, where decompress finds it.

    Models that come with latentpress, in the folder `packaged`, are known already.
    """
    mark = model_fingerprint(codec).hex()
    if mark in packaged_models(packaged) or mark in packaged_models(folder):
        return
    try:
        save_model(codec, folder / f"{mark}.safetensors")
    except CodingError as error:
        raise CodingError(f"{error}, or give another paths.cache_dir=") from error
