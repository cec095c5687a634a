"""Which files are inputs, in which order, and under which names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datamodules.file_listing import list_bitstreams, list_images, named_files, natural_order
from lightning_modules.errors import CodingError


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names_of(root: Path) -> list[str]:
    return [name for name, _ in named_files(root, list_images(root))]


def test_names_mirror_nested_folders_with_slashes(tmp_path: Path) -> None:
    make(tmp_path, "b.png", "deep/er/a.jpg", "deep/z.webp", "with space/ü.png", "notes.txt", "out.png.lpc")
    assert names_of(tmp_path) == ["b.png", "deep/er/a.jpg", "deep/z.webp", "with space/ü.png"]


def test_numbers_are_ordered_by_value_and_ties_by_name(tmp_path: Path) -> None:
    make(tmp_path, "a10.png", "a2.png", "a02.png", "a1b3.png", "a1b20.png", "10/x.png", "9/x.png", "a.png")
    expected = ["9/x.png", "10/x.png", "a.png", "a1b3.png", "a1b20.png", "a02.png", "a2.png", "a10.png"]
    assert names_of(tmp_path) == expected


def test_any_two_names_can_be_ordered() -> None:
    names = ["1", "a", "a1", "1a", "", "a/1", "1/a", "a1b", "a/", "٣", "²"]
    assert sorted(sorted(names, reverse=True), key=natural_order) == sorted(names, key=natural_order)


def test_hidden_files_and_folders_are_no_inputs(tmp_path: Path) -> None:
    make(tmp_path, "seen.png", ".hidden.png", ".latentpress/claim.png", "sub/.thumbs/a.png")
    assert names_of(tmp_path) == ["seen.png"]


def test_links_to_folders_are_not_followed_but_links_to_files_are(tmp_path: Path) -> None:
    make(tmp_path, "pictures/a.png", "elsewhere/b.png")
    (tmp_path / "pictures" / "circle").symlink_to(tmp_path / "pictures")
    (tmp_path / "pictures" / "away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pictures" / "c.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "pictures" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    assert names_of(tmp_path / "pictures") == ["a.png", "broken.png", "c.png"]


def test_one_file_is_an_input_whatever_its_suffix(tmp_path: Path) -> None:
    make(tmp_path, "scan.dat")
    assert named_files(tmp_path / "scan.dat", list_images(tmp_path / "scan.dat")) == [
        ("scan.dat", tmp_path / "scan.dat")
    ]


def test_bitstreams_are_told_by_their_suffix(tmp_path: Path) -> None:
    make(tmp_path, "a.png.lpc", "sub/B.LPC", "a.png", "report.csv", ".latentpress/x.lpc")
    assert [name for name, _ in named_files(tmp_path, list_bitstreams(tmp_path))] == [
        "a.png.lpc",
        "sub/B.LPC",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("empty", "empty: holds no image (looked for .png"), ("missing", "missing: no such file or folder")],
)
def test_nothing_to_do_is_one_line_with_the_remedy(tmp_path: Path, name: str, expected: str) -> None:
    make(tmp_path, "empty/readme.txt")
    with pytest.raises(CodingError) as caught:
        list_images(tmp_path / name)
    assert expected in str(caught.value)
    assert str(caught.value).endswith("give a folder or a file with input=")
    assert "\n" not in str(caught.value)


@pytest.mark.faults
def test_a_subfolder_that_cannot_be_listed_is_an_input_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.png", "locked/b.png")
    scandir = os.scandir

    def guarded(path: str | Path) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)  # the tests may run as root, who may list anything
    assert names_of(tmp_path) == ["a.png", "locked"]
    with pytest.raises(CodingError, match="permission denied"):
        list_images(tmp_path / "locked")
