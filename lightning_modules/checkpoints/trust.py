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
    """Let codecs of these packages be built in this process, as those that the user's own file names always are.

    Raises:
        CodingError: That file cannot be read, or a name in either is not that of a package.
    """
    _allowed.update(_names(packages))
    _of_user_file()


def require_allowed(codec_name: str) -> None:
    """Raise `CodingError` for a class, by its dotted name, that is neither ours nor of a package that was allowed.

    Its models and files could be made, but never be read.
    """
    package = codec_name.partition(".")[0]
    if package != OWN and package not in _allowed and package not in _of_user_file():
        raise CodingError(
            f"{codec_name}: a codec outside latentpress, whose models and files are read only where its package is "
            f"allowed; if you know it, give trust=[{package}], or write trust: [{package}] into {user_file()}"
        )


def user_file() -> Path:
    """Return the path of the user's own configuration file, which need not exist."""
    named = os.environ.get(USER_FILE)
    return Path(named) if named else Path.home() / ".config" / "latentpress" / "config.yaml"


def _names(packages: Iterable[object]) -> set[str]:
    names = set()
    for package in packages:
        if not (isinstance(package, str) and package.isidentifier()):
            raise CodingError(f"trust={package}: not the name of a package; write for example trust=[mylab]")
        names.add(package)
    return names


def _of_user_file() -> set[str]:
    path = user_file()
    if not path.is_file():
        return set()
    try:
        settings = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # whatever a parser says of a file
        reason = " ".join(str(error).split())
        raise CodingError(f"{path}: cannot be read ({reason}); write a line such as trust: [mylab]") from error
    if not isinstance(settings, dict) or settings.keys() - {"trust"} or not isinstance(settings.get("trust"), list):
        raise CodingError(f"{path}: holds something else than trust: [PACKAGE, ...]; leave that line alone in it")
    return _names(settings["trust"])
