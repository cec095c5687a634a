"""Fixtures every test may use: the shared data, and what to leave out where a device is missing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import lightning_modules.launch  # noqa: F401  registers what configurations need to be composed

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's top folder."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of pictures and data sets beside the checkout, or where LATENTPRESS_SHARED points."""
    folder = Path(os.environ.get("LATENTPRESS_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared data: set LATENTPRESS_SHARED to the folder that holds data/kodak")
    return folder


@pytest.fixture(scope="session")
def kodak(shared: Path) -> list[Path]:
    """The Kodak pictures, kodim01 first."""
    pictures = sorted((shared / "data" / "kodak").glob("kodim*.png"))
    if not pictures:
        pytest.skip("the shared data holds no data/kodak/kodim*.png")
    return pictures


def pytest_configure() -> None:
    """Tests send Ctrl-C, which a shell lets what it starts in the background ignore: here it counts again."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu where there is no CUDA device."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have counted, each `record_property(what, counts)` a line."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind if hasattr(report, "when")]
    counted = [line for report in reports if report.when == "call" for line in report.user_properties]
    if counted:
        terminalreporter.section("counts")
    for what, counts in counted:
        terminalreporter.write_line(f"{what}: {counts}")
