"""A download is complete and right, or not there."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_modules.errors import CodingError
from lightning_modules.system.download import fetch

DATA = bytes(range(256)) * 3000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A file:// URL of DATA."""
    path = tmp_path / "source file.bin"
    path.write_bytes(DATA)
    return path.as_uri()


class Server(http.server.ThreadingHTTPServer):
    """Serves DATA; `ranges`: whether it can start in the middle; `cut`: bytes after which it hangs up."""

    ranges = True
    cut = len(DATA)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
    """One answer."""

    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        start = int(asked[6:-1]) if asked and self.server.ranges else 0
        if start >= len(DATA):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        self.wfile.write(DATA[start : start + self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/data.bin"


def test_a_file_arrives_whole_under_its_name_alone(tmp_path: Path, source: str) -> None:
    target = tmp_path / "deep" / "er" / "data.bin"
    assert fetch(source, SHA256, target) == target
    assert target.read_bytes() == DATA
    assert os.listdir(target.parent) == ["data.bin"]


def test_what_is_there_is_neither_fetched_again_nor_replaced(tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    target.write_bytes(DATA)
    fetch("http://nowhere.invalid/data.bin", SHA256, target)
    target.write_bytes(b"a file of the user's own")
    with pytest.raises(CodingError, match="is not the published file; move it away"):
        fetch("http://nowhere.invalid/data.bin", SHA256, target)
    assert target.read_bytes() == b"a file of the user's own"


@pytest.mark.parametrize("kept", [0, 1, 1000, len(DATA) - 1])
def test_a_part_is_completed_from_where_it_ends(tmp_path: Path, server: Server, kept: int) -> None:
    (tmp_path / "data.bin.part").write_bytes(DATA[:kept])
    fetch(address(server), SHA256, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == DATA
    assert server.asked == [f"bytes={kept}-" if kept else None]
    assert not (tmp_path / "data.bin.part").exists()


def test_a_whole_part_needs_no_network(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data.bin.part").write_bytes(DATA)
    fetch(address(server), SHA256, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == DATA
    assert server.asked == []


def test_a_part_of_a_local_file_is_completed(tmp_path: Path, source: str) -> None:
    (tmp_path / "data.bin.part").write_bytes(DATA[:777])
    fetch(source, SHA256, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == DATA


@pytest.mark.parametrize("part", [b"something else", DATA + b"and more", bytes(len(DATA))])
def test_a_wrong_part_is_given_up(tmp_path: Path, server: Server, part: bytes) -> None:
    (tmp_path / "data.bin.part").write_bytes(part)
    fetch(address(server), SHA256, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == DATA


def test_a_server_without_ranges_starts_again(tmp_path: Path, server: Server) -> None:
    server.ranges = False
    (tmp_path / "data.bin.part").write_bytes(DATA[:5000])
    fetch(address(server), SHA256, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == DATA


def test_an_interrupted_download_goes_on_where_it_stopped(tmp_path: Path, server: Server) -> None:
    server.cut = 300_000
    for expected in (300_000, 600_000):
        with pytest.raises(CodingError, match=f"interrupted after {expected} of {len(DATA)} bytes"):
            fetch(address(server), SHA256, tmp_path / "data.bin")
        assert (tmp_path / "data.bin.part").stat().st_size == expected
        assert not (tmp_path / "data.bin").exists()
    fetch(address(server), SHA256, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]


@pytest.mark.parametrize("part", [b"", DATA[:1000]])
def test_bytes_of_another_hash_are_refused_and_not_kept(tmp_path: Path, source: str, part: bytes) -> None:
    (tmp_path / "data.bin.part").write_bytes(part)
    with pytest.raises(CodingError, match="does not hold the expected bytes"):
        fetch(source, "0" * 64, tmp_path / "data.bin")
    assert not (tmp_path / "data.bin").exists()
    assert (tmp_path / "data.bin.part").stat().st_size == 0


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/data.bin", "Connection refused"),
        ("file:///no/such/data.bin", "No such file or directory"),
    ],
)
def test_no_network_is_one_line_with_the_way_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    target = tmp_path / "data.bin"
    with pytest.raises(CodingError) as caught:
        fetch(url, SHA256, target)
    line = str(caught.value)
    assert line.startswith(f"data.bin: cannot be downloaded ({reason}); ")
    assert line.endswith(f"by hand: {url} -> {target}")
    assert "\n" not in line


def test_an_absent_page_is_one_line(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "do_GET", lambda self: self.send_error(404))
    with pytest.raises(CodingError, match=r"cannot be downloaded \(Not Found\)"):
        fetch(address(server), SHA256, tmp_path / "data.bin")


def test_other_kinds_of_address_are_the_callers_fault(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected http, https or file"):
        fetch("ftp://somewhere/data.bin", SHA256, tmp_path / "data.bin")


def test_processes_that_want_the_same_file_all_get_it(tmp_path: Path, source: str) -> None:
    context = multiprocessing.get_context("fork")
    target = tmp_path / "shared" / "data.bin"
    processes = [context.Process(target=fetch, args=(source, SHA256, target)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert target.read_bytes() == DATA
    assert os.listdir(target.parent) == ["data.bin"]
