"""Who works on which item: files that exactly one process can create, and that die with their process.

The claim on an item is the file `<hash of its name>.<generation>`; the highest generation counts. A claim
whose process is dead is taken over by creating the next generation, which again only one process can do, so
that no lock is needed and any file system with exclusive creation will serve.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_modules.system.worker import Worker, is_alive, this_worker

HEARTBEAT = 10.0
"""Seconds between two signs of life of a claim, for other machines, which cannot see its process."""

PATIENCE = 60.0
"""Seconds without a sign of life after which a claim of another machine is free."""

_sessions = itertools.count()


class Claims:
    """The claims below `folder`, and those that this object holds. One object per pass over the items.

    A claim of this very process that another object took, and did not settle, is left over from an earlier
    pass that was given up: it is free.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: dict[str, Path] = {}
        self._session = next(_sessions)
        self._seen: dict[Path, tuple[int, float]] = {}
        self._closed = threading.Event()

    def take(self, name: str, source: list[int] | None) -> bool:
        """Return whether `name` is now this process's; `source` (bytes, mtime in ns) is noted with the claim.

        Raises `OSError` when the file system refuses.
        """
        for generation in itertools.count():
            path = _claim_path(self.folder, name, generation)
            if not path.exists():
                return self._create(path, name, source)
            if self._is_held(path):
                return False
        raise AssertionError("unreachable")

    def settle(self, name: str) -> None:
        """Do as the function `settle`, for a claim of this object."""
        self.held.pop(name, None)
        settle(self.folder, name)

    def drop(self, name: str) -> None:
        """Give an unfinished item back."""
        self.held.pop(name).unlink(missing_ok=True)

    def keep_alive(self) -> None:
        """Show signs of life from a thread until `close`, and then for as long as any claim is held."""
        threading.Thread(target=self._beat, name="claims", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def forget_settled(self) -> None:
        """Claims whose file was removed by `settle` are no longer held."""
        for name, path in list(self.held.items()):
            if not path.exists():
                self.held.pop(name, None)

    def _create(self, path: Path, name: str, source: list[int] | None) -> bool:
        claim = {
            "worker": this_worker().label,
            "session": self._session,
            "time": time.time(),
            "source": source,
        }
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(descriptor, json.dumps(claim).encode())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        self.held[name] = path
        return True

    def _is_held(self, path: Path) -> bool:
        """Vanished claims count as held for now: their item is settled, or will be free at the next look."""
        try:
            claim = json.loads(path.read_bytes())
            worker = Worker.from_label(claim["worker"])
        except FileNotFoundError:
            return True
        except (ValueError, KeyError, TypeError):  # its process is about to write it, or died before it could
            return self._shows_life(path)
        if worker == this_worker():
            return bool(claim["session"] == self._session)
        alive = is_alive(worker)
        return self._shows_life(path) if alive is None else alive

    def _shows_life(self, path: Path) -> bool:
        """Judged by changes between our own looks, so that the clocks of two machines need not agree."""
        try:
            stamp = path.stat().st_mtime_ns
        except FileNotFoundError:
            return True
        last_stamp, since = self._seen.get(path, (None, 0.0))
        if stamp != last_stamp:
            since = time.monotonic()
            self._seen[path] = (stamp, since)
        return time.monotonic() - since < PATIENCE

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT) or self.held:
            self.forget_settled()
            for path in list(self.held.values()):
                with contextlib.suppress(OSError):
                    os.utime(path)
            if self._closed.is_set():
                time.sleep(HEARTBEAT)


def own_claim(folder: Path, name: str) -> dict[str, Any] | None:
    """Return what this process noted when it claimed `name` (`time`, `source`); None if it holds no claim on it."""
    claims = [claim for claim in _read_all(folder, name) if claim.get("worker") == this_worker().label]
    return claims[-1] if claims else None


def settle(folder: Path, name: str) -> None:
    """Remove every claim on `name`, once its outcome is in the journal, where the next claimer looks."""
    for path in _generations(folder, name):
        path.unlink(missing_ok=True)


def last_claim_time(folder: Path, name: str) -> float:
    """Return when `name` was last claimed, if that claim was never settled; 0 otherwise."""
    return max((float(claim["time"]) for claim in _read_all(folder, name)), default=0.0)


def _claim_path(folder: Path, name: str, generation: int) -> Path:
    return folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.{generation}"


def _generations(folder: Path, name: str) -> Iterator[Path]:
    """Existing claim files of one item, oldest first."""
    paths = (_claim_path(folder, name, generation) for generation in itertools.count())
    return itertools.takewhile(Path.exists, paths)


def _read_all(folder: Path, name: str) -> list[dict[str, Any]]:
    claims = []
    for path in _generations(folder, name):
        with contextlib.suppress(OSError, ValueError):
            claims.append(json.loads(path.read_bytes()))
    return claims
