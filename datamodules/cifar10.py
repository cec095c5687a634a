"""CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 pictures of 32x32, in the authors' files for Python."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datamodules.picture_set import Pictures, PictureSet
from lightning_modules.errors import CodingError
from lightning_modules.system.download import fetch

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"

FOLDER = "cifar-10-batches-py"
BATCHES = {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]}
SIDE = 32

ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # wherever this version has it
}
"""What a batch file may name: nothing in it is run."""


class Cifar10(PictureSet):
    """`root` holds the folder `cifar-10-batches-py`; it is downloaded when it is not there. Subsets are taken, too."""

    def prepare_data(self) -> None:
        if not (self.root / FOLDER).is_dir():
            download(self.root)

    def pictures(self, split: str) -> Pictures:
        return np.concatenate([read_batch(self.root / FOLDER / name) for name in BATCHES[split]])


def download(root: Path, url: str = URL, sha256: str = SHA256) -> None:
    """Fetch and unpack the archive, if it is not in `root` yet."""
    with tarfile.open(fetch(url, sha256, root / url.rpartition("/")[2])) as archive:
        archive.extractall(root, filter="data")


def read_batch(path: Path) -> Pictures:
    """Return the pictures of one batch file, (N, 32, 32, 3); rows in it are R, G, B planes."""
    try:
        with path.open("rb") as file:
            rows = np.asarray(_Restricted(file).load()["data"])
        if rows.dtype != np.uint8:
            raise TypeError(f"its pixels are {rows.dtype}")
        return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    except OSError as error:
        raise CodingError(f"{path}: {error.strerror}; unpack {URL} there") from None
    except Exception as error:  # damaged pickles raise nearly anything
        raise CodingError(f"{path}: not a batch of CIFAR-10 ({error}); unpack {URL} there again") from None


class _Restricted(pickle.Unpickler):
    """Reads pickles of Python 2 that hold nothing but arrays, lists and strings."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="bytes")

    def load(self) -> dict[str, Any]:
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in super().load().items()}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return ALLOWED[module, name]
