"""Finding the model that a file was made with, by the fingerprint in its header."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lightning_modules.checkpoints.packaged_model import load_model, read_metadata, save_model
from lightning_modules.codec import Codec, CodingError, WrongModel
from lightning_modules.coding.container import read
from lightning_modules.coding.picture import model_fingerprint


class ModelLibrary:
    """Models by fingerprint: those given, then packaged files in `folders`, each loaded when first needed."""

    def __init__(self, folders: Sequence[Path], codecs: Sequence[Codec] = ()) -> None:
        self.folders = list(folders)
        self.loaded = {model_fingerprint(codec): codec for codec in codecs}

    def find(self, data: bytes) -> Codec:
        """The codec that made the `.lpc` bytes; `WrongModel` when no known model did."""
        wanted = read(data).fingerprint
        if wanted not in self.loaded:
            path = self._paths().get(wanted.hex())
            if path is None:
                raise WrongModel(
                    f"needs model {wanted.hex()}, which is not among the packaged or cached ones; "
                    "give the checkpoint it was made with as ckpt="
                )
            self.loaded[wanted] = load_model(path)
        return self.loaded[wanted]

    def _paths(self) -> dict[str, Path]:
        return {mark: path for folder in self.folders for mark, path in packaged_models(folder).items()}


def packaged_models(folder: Path) -> dict[str, Path]:
    """Model files of a folder by fingerprint, in hex. Other files, damaged ones included, are passed over."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with suppress(CodingError):
            found[read_metadata(path)["fingerprint"]] = path
    return found


def remember(codec: Codec, folder: Path, packaged: Path) -> None:
    """Keep a model that makes files on this machine, as FOLDER/FINGERPRINT.safetensors, so that decompress finds it.

    Models that come with latentpress, in the folder `packaged`, are known already.
    """
    mark = model_fingerprint(codec).hex()
    path = folder / f"{mark}.safetensors"
    if not path.exists() and mark not in packaged_models(packaged):
        save_model(codec, path)
