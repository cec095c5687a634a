"""Packages outside this repository whose codecs a user allows: a model names its class, and importing runs code."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from omegaconf import OmegaConf

from lightning_modules.errors import CodingError

OWN = "lightning_modules"
USER_FILE = "LATENTPRESS_CONFIG"
"""Environment variable that names the user's own configuration file."""

_allowed: set[str] = set()


def allow(packages: Iterable[str]) -> None:
    """Let codecs of these packages, and of those that the user's own file names, be built in this process.

    Raises:
        CodingError: That file cannot be read, or a name in either is not that of a package.
    """
    for package in [*packages, *_of_user_file()]:
        if not (isinstance(package, str) and package.isidentifier()):
            raise CodingError(f"trust={package}: not the name of a package; write for example trust=[mylab]")
        _allowed.add(package)


def is_allowed(codec_name: str) -> bool:
    """Return whether the class of this dotted name is ours, or of a package that was allowed."""
    package = codec_name.partition(".")[0]
    return package == OWN or package in _allowed


def require_allowed(codec_name: str) -> None:
    """Raise `CodingError` for a codec whose models and files could be made, but never be read."""
    package = codec_name.partition(".")[0]
    if not is_allowed(codec_name):
        raise CodingError(
            f"{codec_name}: a codec outside latentpress, whose models and files are read only where its package is "
            f"allowed; if you know it, give trust=[{package}], or write trust: [{package}] into {user_file()}"
        )


def user_file() -> Path:
    """Return the path of the user's own configuration file, which need not exist."""
    named = os.environ.get(USER_FILE)
    return Path(named) if named else Path.home() / ".config" / "latentpress" / "config.yaml"


def _of_user_file() -> list[str]:
    path = user_file()
    if not path.is_file():
        return []
    try:
        settings = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # whatever a parser says of a file
        reason = " ".join(str(error).split())
        raise CodingError(f"{path}: cannot be read ({reason}); write a line such as trust: [mylab]") from error
    if not isinstance(settings, dict) or settings.keys() - {"trust"} or not isinstance(settings.get("trust"), list):
        raise CodingError(f"{path}: holds something else than trust: [PACKAGE, ...]; leave that line alone in it")
    return settings["trust"]
