"""Fetching a published file: checked by SHA-256, resumed where it was interrupted, never half there."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlparse

from rich.progress import (
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lightning_modules.errors import CodingError

_CHUNK = 2**18
_TIMEOUT_SECONDS = 30


def fetch(url: str, sha256: str, path: str | Path) -> Path:
    """Makes sure that `path` holds the bytes of this hash, downloading what is missing; returns `path`.

    url: http, https or file. The bytes gather in `path` + `.part`, which a later call completes. A file that
    is already there is never replaced.

    Raises:
        CodingError: the file cannot be had; the line names it, the reason, and the way by hand.
        ValueError: another kind of URL.
    """
    path = Path(path)
    if urlparse(url).scheme not in ("http", "https", "file"):
        raise ValueError(f"url {url!r}: expected http, https or file")
    if path.exists():
        return _require_hash(path, sha256)
    part = path.with_name(path.name + ".part")
    by_hand = f"check the network and try again, or put the file there by hand: {url} -> {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(part) as file:
            if path.exists():  # another process was faster
                part.unlink(missing_ok=True)
            else:
                _complete(file, url, sha256, path.name)
                os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:
        raise CodingError(f"{path.name}: cannot be downloaded ({_reason(error)}); {by_hand}") from None
    return path


def _complete(file: BinaryIO, url: str, sha256: str, name: str) -> None:
    """Appends what is missing. If the whole has another hash, an old part may be to blame: again from 0."""
    resumed = file.seek(0, os.SEEK_END) > 0
    if resumed and _hash(file) == sha256:  # interrupted right before it got its name
        return
    _append(file, url, name)
    if _hash(file) == sha256:
        return
    file.truncate(0)
    if not resumed:
        raise CodingError(
            f"{name}: {url} does not hold the expected bytes (sha256 {sha256[:16]}...); find another copy"
        )
    _complete(file, url, sha256, name)


def _append(file: BinaryIO, url: str, name: str) -> None:
    with _open(url, file.seek(0, os.SEEK_END)) as (source, start, total):
        file.truncate(start)  # a server without ranges starts again
        file.seek(start)
        with _progress(name, start, total) as (progress, task):
            while chunk := source.read(_CHUNK):
                file.write(chunk)
                progress.advance(task, len(chunk))
        file.flush()
        if total is not None and file.tell() < total:
            raise OSError(f"interrupted after {file.tell()} of {total} bytes")


@contextmanager
def _open(url: str, offset: int) -> Iterator[tuple[BinaryIO | http.client.HTTPResponse, int, int | None]]:
    """The stream, the position of its first byte in the file, and the file's length if it is known."""
    if urlparse(url).scheme == "file":
        with open(urllib.request.url2pathname(urlparse(url).path), "rb") as source:
            total = source.seek(0, os.SEEK_END)
            start = source.seek(min(offset, total))
            yield source, start, total
        return
    headers = {"User-Agent": "latentpress"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not offset:
            raise
        with _open(url, 0) as whole:  # our part is longer than the file
            yield whole
        return
    with response:
        start = offset if response.status == http.client.PARTIAL_CONTENT else 0
        length = response.headers.get("Content-Length")
        yield response, start, None if length is None else start + int(length)


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """Give the part file, ours alone: jobs of a sweep may want the same data set at the same time.

    The lock is on that file itself, where filelock would leave one of its own beside it.
    """
    with part.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


@contextmanager
def _progress(name: str, start: int, total: int | None) -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        TextColumn("{task.description}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        yield progress, progress.add_task(name, total=total, completed=start)


def _require_hash(path: Path, sha256: str) -> Path:
    with path.open("rb") as file:
        if _hash(file) != sha256:
            raise CodingError(f"{path}: is not the published file; move it away to have that downloaded")
    return path


def _hash(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    """One line. URLError hides the system's error in `reason`."""
    cause = getattr(error, "reason", None) or error
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return " ".join(str(text).split())
