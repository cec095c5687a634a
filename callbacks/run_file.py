"""Files of a run folder, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_run_file(path: Path, content: str | bytes) -> None:
    """Makes the folders above; a reader never sees half of `content`. Text is UTF-8."""
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
