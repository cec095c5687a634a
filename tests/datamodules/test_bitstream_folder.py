"""Files to decode, as bytes that nobody has judged yet."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datamodules.bitstream_folder import BitstreamFolder, read_bitstream
from lightning_modules.errors import CodingError
from lightning_modules.records import CompressedImage, Failure


def test_files_of_nested_folders_come_with_their_bytes_and_names(tmp_path: Path) -> None:
    contents = {"a.png.lpc": b"LPC", "b/c.jpg.lpc": b"", "b/c10.png.lpc": b"\x00\xff"}
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "report.csv").write_text("name,status")
    records = list(BitstreamFolder(input=tmp_path).predict_dataloader())
    assert records == [[CompressedImage(name, data)] for name, data in contents.items()]
    batches = list(BitstreamFolder(input=tmp_path, batch_size=2).predict_dataloader())
    assert batches == [records[0] + records[1], records[2]]


def test_one_file_is_an_input(tmp_path: Path) -> None:
    (tmp_path / "received.bin").write_bytes(b"LPC")
    records = list(BitstreamFolder(input=tmp_path / "received.bin").predict_dataloader())
    assert records == [[CompressedImage("received.bin", b"LPC")]]


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "film.lpc"
    with path.open("wb") as file:
        file.truncate(2**40)  # occupies nothing; reading it would exhaust the memory
    record = read_bitstream(("film.lpc", path))
    assert isinstance(record, Failure)
    assert record.error.startswith("film.lpc: is too large")
    path.write_bytes(bytes(5))
    assert isinstance(read_bitstream(("film.lpc", path), max_bytes=5), CompressedImage)
    assert isinstance(read_bitstream(("film.lpc", path), max_bytes=4), Failure)


@pytest.mark.faults
def test_a_file_that_cannot_be_had_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "link.lpc").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe.lpc")
    (tmp_path / "whole.lpc").write_bytes(b"LPC")
    ((link, pipe, whole),) = BitstreamFolder(input=tmp_path, batch_size=9).predict_dataloader()
    assert isinstance(link, Failure)
    assert link.error.startswith("link.lpc: no such file")
    assert isinstance(pipe, Failure)
    assert pipe.error.startswith("pipe.lpc: is not a regular file")
    assert whole == CompressedImage("whole.lpc", b"LPC")


@pytest.mark.parametrize("given", [None, "missing", "."])
def test_nothing_to_decode_is_one_line(tmp_path: Path, given: str | None) -> None:
    with pytest.raises(CodingError, match="input="):
        BitstreamFolder(input=None if given is None else tmp_path / given).predict_dataloader()


def test_a_batch_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.lpc").write_bytes(b"LPC")
    with pytest.raises(CodingError, match="batch_size=0"):
        BitstreamFolder(input=tmp_path, batch_size=0).predict_dataloader()
