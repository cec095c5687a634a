"""What has become of the items of a folder job, verified as it is told, and the table of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_modules.folder_jobs.claims import last_claim_time
from lightning_modules.folder_jobs.file_names import Item, has_changed, has_size, printable
from lightning_modules.folder_jobs.journal import Journal, Row
from lightning_modules.folder_jobs.outputs import is_whole, made_files
from lightning_modules.folder_jobs.report_table import table, totals
from lightning_modules.folder_jobs.shard import Shard
from lightning_modules.records import REPORT_COLUMNS
from lightning_modules.system.atomic_file import flush_folder, write_atomically

NOT_DONE = "not done: its process died or was stopped; run the same command again"
ELSEWHERE = "not done: of another shard, which has not come to it or has died"
CHANGED = "not done: it has changed since it was read; run the same command again"
DAMAGED = "its output is missing or damaged; run the same command again"


class JobReport:
    """The report of a job whose results go to the folder `output`.

    files, failed: numbers of this shard's rows, and of failed ones among them, in the table last written. faults: why
    those failed, a line each. totals: its further columns over the whole folder, a line each.
    """

    def __init__(self, output: Path, key: str, shard: Shard, journal: Journal, claims_folder: Path) -> None:
        self.output = output
        self.key = key
        self.shard = shard
        self.files = 0
        self.faults: list[str] = []
        self.totals: list[str] = []
        self._journal = journal
        self._claims_folder = claims_folder

    @property
    def failed(self) -> int:
        return len(self.faults)

    def rows(self, items: Sequence[Item]) -> list[Row]:
        """Return the report's columns for each of `items`, in this order; `ok` and `skipped` are verified now.

        Of other shards, only that they are there.
        """
        self._journal.refresh()
        return [self._verified_row(name, path) for name, path in items]

    def write(self, path: Path, items: Sequence[Item]) -> None:
        """Write the table of `items` to `path`, and journal the end of this run. Raises `OSError`.

        Of several processes that end at the same time, none is left out: who sees that another has ended writes again.
        """
        self._write_rows(path, items)
        seen = self._journal.closings + 1
        self._journal.close_run()
        self._journal.refresh()
        while self._journal.closings > seen:
            seen = self._journal.closings
            self._write_rows(path, items)

    def _write_rows(self, path: Path, items: Sequence[Item]) -> None:
        rows = self.rows(items)
        columns = dict.fromkeys([*REPORT_COLUMNS, *(column for row in rows for column in row)])
        for folder in {(self.output / row.get("output", "")).parent for row in self._journal.latest.values()}:
            flush_folder(folder)  # before the report says that it is there
        write_atomically(path, table(rows, columns).encode("utf-8", "surrogateescape"))
        own = [row for row in rows if self.shard.holds(row["name"])]
        self.files = len(own)
        self.faults = [_fault(row) for row in own if row["status"] == "failed"]
        self.totals = totals(rows, columns)

    def _verified_row(self, name: str, path: Path) -> Row:
        row = self._journal.latest.get(name)
        if row is None or not self._is_last_word(row):
            error = NOT_DONE if self.shard.holds(name) else ELSEWHERE
            row = {"name": name, "status": "failed", "error": error}
        elif row["status"] != "failed" and not self._is_whole(row):
            row = {"name": name, "status": "failed", "error": f"{row['output']}: {DAMAGED}"}
        elif row["status"] != "failed" and has_changed(row.get("source"), path):
            row = {"name": name, "status": "failed", "error": CHANGED}
        return {column: row.get(column) for column in REPORT_COLUMNS} | row.get("accounts", {})

    def _is_last_word(self, row: Row) -> bool:
        """Not of an output under other settings, and nobody has begun the item anew since."""
        same = row["status"] == "failed" or row.get("key") == self.key
        return same and bool(row["time"] >= last_claim_time(self._claims_folder, row["name"]))

    def _is_whole(self, row: Row) -> bool:
        """Outputs of other shards are not read again: that would read the whole folder once for each shard."""
        if not self.shard.holds(row["name"]):
            return all(has_size(self.output, made.output, made.size) for made in made_files(row))
        return is_whole(self.output, row, self._journal.latest)


def _fault(row: Row) -> str:
    """Say why an item failed, its name first."""
    name, error = printable(row["name"]), printable(row["error"])
    return error if error.startswith(name) else f"{name}: {error}"
