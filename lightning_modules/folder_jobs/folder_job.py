"""A job over the files of a folder that any number of processes share, and that survives each of them.

    pending --(name, path)--> the work --bytes--> finish --> output file, journal row
                                      \\--error--> fail   --> journal row               ... write_report

All state lies in `output/.latentpress/`: claims on items being worked on, and journals of what became of
them. Processes never talk to each other, so one that dies takes nothing along but its current item, which
another one, or the same command run again, picks up. An output counts only if it has the journaled CRC-32.
A request to stop (`stop_request`) ends `pending` at the next item; the report says what was not done.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from lightning_modules.errors import CodingError
from lightning_modules.folder_jobs.claims import Claims, own_claim, settle
from lightning_modules.folder_jobs.file_names import (
    STATE_FOLDER,
    Item,
    Source,
    output_path,
    printable,
    source_of,
)
from lightning_modules.folder_jobs.job_report import JobReport
from lightning_modules.folder_jobs.journal import Journal, Row
from lightning_modules.folder_jobs.outputs import Made, is_whole, links_of, remove_earlier
from lightning_modules.folder_jobs.report_table import refuse_to_replace_table
from lightning_modules.folder_jobs.shard import WHOLE, Shard
from lightning_modules.system import stop_request
from lightning_modules.system.atomic_file import (
    describe_fault,
    remove_stale,
    write_atomically,
    write_whole,
)

REPORT_NAME = "report.csv"
POLL_SECONDS = 0.2


class Plan(NamedTuple):
    """Size of the job in progress: number of input files, and their length together."""

    files: int
    bytes: int


class FolderJob:
    """One process's hand on the job whose results go to the folder `output`. Building one touches nothing.

    key: what else the outputs depend on (model, settings); those made under another key are made again.
    replaceable: ends of names of outputs that take the place of what is there, even if another job made that.
    shard: the part of the items that is this process's; reports have all of them.
    report: what has become of the items, and the table of it last written.
    """

    def __init__(
        self, output: str | Path, key: str = "", replaceable: Sequence[str] = (".lpc",), shard: Shard = WHOLE
    ) -> None:
        self.output = Path(output)
        self.key = key
        self.replaceable = tuple(replaceable)
        self.shard = shard
        self._sources: dict[str, Source | None] = {}
        self._attached: dict[str, list[Made]] = {}
        self._journal = Journal(self._state / "journal")
        self.report = JobReport(self.output, key, shard, self._journal, self._claims_folder)

    # ---- handing out the work

    def check_writable(self) -> None:
        """Make the output folder, remove what killed processes left half-written, prove that it takes files.

        Raises `CodingError`, also where the report would replace a file of another kind. Call it before anything
        expensive.
        """
        self._make_folders()
        refuse_to_replace_table(self.output / REPORT_NAME)
        probe = self._state / "probe"
        with _writing(self.output):
            remove_stale(self.output)
            write_atomically(probe, b"")
            probe.unlink(missing_ok=True)

    def pending(self, items: Sequence[Item]) -> Iterator[Item]:
        """Yield items of this shard that nobody has finished or works on, largest file first, claimed as yielded.

        The caller owes a `finish` or `fail` for each. When all others are claimed, waits, and takes over what
        dies; ends when every item is settled, or when it is asked to stop. A caller that asks for more while it
        still owes an item (a loader that fetches ahead) is not made to wait: it might be waiting for itself.
        """
        self._make_folders()
        journal, claims = Journal(self._journal.folder), Claims(self._claims_folder)
        self._sources = {name: source_of(path) for name, path in items}
        sizes = {name: (source or [0, 0])[0] for name, source in self._sources.items()}
        waiting = sorted((item for item in items if self.shard.holds(item[0])), key=lambda item: -sizes[item[0]])
        self._write_state("plan.json", Plan(len(sizes), sum(sizes.values()))._asdict())
        journal.refresh()
        claims.keep_alive()
        try:
            while waiting and not stop_request.requested():
                waiting = yield from self._claimable(waiting, journal, claims)
                journal.refresh()
                claims.forget_settled()
                waiting = [item for item in waiting if item[0] not in journal.settled]
                if claims.held:
                    return
                if waiting:
                    time.sleep(POLL_SECONDS)
        except GeneratorExit:
            claims.forget_settled()
            for name in list(claims.held):
                claims.drop(name)
            raise
        finally:
            claims.close()

    def _claimable(self, items: Sequence[Item], journal: Journal, claims: Claims) -> Generator[Item, None, list[Item]]:
        """Yields what is free, returns what others hold."""
        held_elsewhere = []
        for name, path in items:
            if stop_request.requested():
                break
            source = source_of(path)
            if name in journal.settled:
                continue
            if not self._take(claims, name, source):
                held_elsewhere.append((name, path))
                continue
            journal.refresh()  # somebody may have settled it between our look and our claim
            row = journal.newest(name)
            if name in journal.settled:
                claims.settle(name)
            elif row is not None and self._is_done(row, source, journal):
                self._append(journal, {**row, "status": "skipped"})
                claims.settle(name)
            else:
                yield name, path
        return held_elsewhere

    def _take(self, claims: Claims, name: str, source: Source | None) -> bool:
        with _writing(self._state):
            return claims.take(name, source)

    def _is_done(self, row: Row, source: Source | None, journal: Journal) -> bool:
        """Return whether what an earlier process noted still holds: same settings, same input, output intact."""
        same = row["status"] != "failed" and row.get("key") == self.key and row.get("source") == source
        if not same or source is None or not is_whole(self.output, row, journal.latest):
            return False
        links = links_of(row, journal.latest)
        return all(link.get("source") == self._sources.get(link["name"], link.get("source")) for link in links)

    # ---- taking in the results

    def finish(self, name: str, output_name: str, data: bytes, row: Mapping[str, Any]) -> Path:
        """Put `data` under `output/output_name`, whole or not at all, and journal `row` (report columns).

        Raises `CodingError` when the output cannot be written, would lie outside the folder, or would replace
        a picture that this job has not made; what was there before is intact. The item is then still owed.
        """
        return self.finish_together({name: row}, output_name, data)

    def finish_together(self, rows: Mapping[str, Mapping[str, Any]], output_name: str, data: bytes) -> Path:
        """`finish` of several items that have one output. rows: by name.

        What was made of them before, under other names, is removed: it would be taken for more results.
        """
        path = output_path(self.output, output_name)
        self._make_folders()
        earlier = [self._history.latest.get(name) for name in rows]
        made = Made(output_name, len(data), zlib.crc32(data))
        whole_rows = [self._whole_row(name, row, made, path) for name, row in rows.items()]
        with _writing(path):
            for row in whole_rows:
                # noted beforehand: a process killed once the output has its name leaves it done, not to be done again
                self._journal.append({**row, "status": "begun"})
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
            remove_earlier(self.output, earlier, output_name)
        for row in whole_rows:
            self._settle({**row, "status": "ok"})
        return path

    def _whole_row(self, name: str, row: Mapping[str, Any], made: Made, path: Path) -> Row:
        self._refuse_to_replace(name, made.output, path)
        attached = self._attached.pop(name, [])
        more = {"attached": [[*one] for one in attached]} if attached else {}
        return self._signed({**row, "name": name, **made._asdict(), **more})

    def attach(self, name: str, output_name: str, data: bytes) -> Path:
        """Put a second output of `name` in its place, before `finish` does the first. Raises as `finish`."""
        path = output_path(self.output, output_name)
        self._make_folders()
        self._refuse_to_replace(name, output_name, path)
        with _writing(path):
            self._journal.append({"name": name, "status": "attached", "output": output_name})
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        self._attached.setdefault(name, []).append(Made(output_name, len(data), zlib.crc32(data)))
        return path

    def fail(self, name: str, error: str) -> None:
        """Journal why `name` has no output. Raises `CodingError` when not even that can be written."""
        self._make_folders()
        self._attached.pop(name, None)
        self._settle(self._signed({"name": name, "status": "failed", "error": " ".join(error.splitlines())}))

    def _refuse_to_replace(self, name: str, output_name: str, path: Path) -> None:
        """Other files that this job has not made of the same input are not overwritten: they may be originals."""
        if output_name.lower().endswith(self.replaceable):
            return
        self._journal.refresh()
        if os.path.lexists(path) and self._journal.made.get(output_name) != name:
            raise CodingError(
                f"{printable(str(path))}: exists and was not made from {printable(name)}; "
                "move it away or give another output="
            )

    def _signed(self, row: Row) -> Row:
        """With what the outcome depends on: the settings, and the state of the input when it was claimed."""
        claim = own_claim(self._claims_folder, row["name"]) or {}
        return {**row, "key": self.key, "source": claim.get("source")}

    def _settle(self, row: Row) -> None:
        self._append(self._journal, row)
        settle(self._claims_folder, row["name"])

    # ---- telling how it went

    def arrivals(self) -> list[Row]:
        """Outcomes that any process has journaled since the last call (or since this run began)."""
        return self._journal.refresh()

    def plan(self) -> Plan:
        """Zeros before any process has asked for `pending` items."""
        try:
            return Plan(**json.loads((self._state / "plan.json").read_bytes()))
        except FileNotFoundError:
            return Plan(0, 0)

    def write_report(self, items: Sequence[Item]) -> Path:
        """`output/report.csv`, a row for each item; ends the run. Raises `CodingError`."""
        self._make_folders()
        path = self.output / REPORT_NAME
        with _writing(path):
            self.report.write(path, items)
        return path

    # ---- the state folder

    @cached_property
    def _history(self) -> Journal:
        """Return the journal as it was before this process finished anything."""
        history = Journal(self._journal.folder)
        history.refresh()
        return history

    @property
    def _state(self) -> Path:
        return self.output / STATE_FOLDER

    @property
    def _claims_folder(self) -> Path:
        return self._state / "claims"

    def _make_folders(self) -> None:
        if self._state.is_symlink():
            raise CodingError(f"{printable(str(self._state))}: is a link, and leads elsewhere; remove it")
        with _writing(self.output):
            self._claims_folder.mkdir(parents=True, exist_ok=True)
            self._journal.folder.mkdir(parents=True, exist_ok=True)

    def _append(self, journal: Journal, row: Row) -> None:
        with _writing(journal.folder):
            journal.append(row)

    def _write_state(self, name: str, value: Mapping[str, Any]) -> None:
        with _writing(self._state / name):
            write_atomically(self._state / name, json.dumps(value).encode())


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make `CodingError` of what the system refuses; the line names `path`, the fault and the remedy."""
    try:
        yield
    except OSError as error:
        raise CodingError(f"{printable(str(path))}: cannot be written: {describe_fault(error)}") from None
