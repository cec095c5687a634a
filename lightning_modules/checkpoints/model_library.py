"""Finding the model that a file was made with, by the fingerprint in its header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_modules.checkpoints.packaged_model import load_model, read_metadata, save_model
from lightning_modules.codec import Codec, CodingError, WrongModel
from lightning_modules.coding.container import fingerprint, read


class ModelLibrary:
    """Models by fingerprint: those given, then packaged files in `folders`, each loaded when first needed."""

    def __init__(self, folders: Sequence[Path], codecs: Sequence[Codec] = ()) -> None:
        self.folders = list(folders)
        self.loaded = {fingerprint(codec.decoder_state()): codec for codec in codecs}

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
        found = {}
        for folder in self.folders:
            for path in sorted(folder.glob("*.safetensors")):
                try:
                    found[read_metadata(path)["fingerprint"]] = path
                except (CodingError, KeyError):
                    continue  # not a model of ours, or a damaged one: it cannot be what the file needs
        return found


def remember(codec: Codec, folder: Path) -> Path:
    """Keep a model that makes files on this machine, so that decompress finds it: FOLDER/FINGERPRINT.safetensors."""
    path = folder / f"{fingerprint(codec.decoder_state()).hex()}.safetensors"
    if not path.exists():
        save_model(codec, path)
    return path
