"""Files of weights that others publish: where they come from, where the code looks for them, whether they are right.

The name of each ends with the beginning of its SHA-256, as torchvision, torch-fidelity and CompressAI name theirs.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import torch

from lightning_modules.errors import CodingError

DIGEST = re.compile(r"-([0-9a-f]{8,})\.")
CHUNK = 2**20


class PublishedFile(NamedTuple):
    """url: of the file, http, https or file. folder: where the code looks for it."""

    url: str
    folder: Path

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def digest(self) -> str:
        """Return the beginning of the SHA-256 in hex, at least 8 digits; empty for a name without one."""
        match = DIGEST.search(self.name)
        return match[1] if match else ""

    def fetch(self) -> Path:
        """Downloads what is not there, with a bar, and checks its hash; a file that is there is left as it is.

        Raises `CodingError` when it cannot be had, with the way by hand, or has another hash; nothing is left then.
        """
        if self.path.is_file():
            return self.path
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.url, str(self.path), hash_prefix=self.digest)
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: what arrived has another hash
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
            raise CodingError(
                f"{self.name}: not in {self.folder} and not to be fetched ({reason}); "
                f"without a network, put it there from {self.url}, as {self.path}"
            ) from error
        return self.path

    def sha256(self) -> str:
        """Return the SHA-256 of the file that is there, in hex. Raises `CodingError` when its name promises another."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        if not digest.hexdigest().startswith(self.digest):
            raise CodingError(
                f"{self.path}: damaged, its SHA-256 does not begin with {self.digest}; delete it and run again"
            )
        return digest.hexdigest()
