"""A first signal asks, a second one ends; other processes of the job hear of it; without a watch nothing changes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

from lightning_modules.folder_jobs.folder_job import FolderJob
from lightning_modules.system import stop_request

pytestmark = pytest.mark.faults

FORK = multiprocessing.get_context("fork")


def start(target: Callable[..., None], *arguments: object) -> tuple[ForkProcess, Connection]:
    """A forked process that says when it can be sent signals, and what it sees."""
    mine, theirs = FORK.Pipe()
    process = FORK.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, mine


def kill(process: ForkProcess, *signals: signal.Signals) -> None:
    assert process.pid is not None
    for each in signals:
        os.kill(process.pid, each)
        time.sleep(0.1)


def receive(connection: Connection) -> object:
    assert connection.poll(20), "waited in vain"
    return connection.recv()


def tell_when_asked(connection: Connection) -> None:
    """Within the watch: ready, then the request as soon as there is one, and again after half a second."""
    connection.send("ready")
    while stop_request.requested() is None:
        time.sleep(0.01)
    connection.send(stop_request.requested())
    time.sleep(0.5)
    connection.send(stop_request.requested())


def _deferring(connection: Connection) -> None:
    with stop_request.watched(), stop_request.deferred(lambda signum: connection.send(("forward", signum))):
        tell_when_asked(connection)


def _watching(connection: Connection) -> None:
    with stop_request.watched():
        tell_when_asked(connection)


def _started_by_another(connection: Connection) -> None:
    os.environ["LOCAL_RANK"] = "1"
    _watching(connection)


@pytest.mark.parametrize("received", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_that_others_are_told_of(received: signal.Signals) -> None:
    process, connection = start(_deferring)
    assert receive(connection) == "ready"
    kill(process, received)
    heard = [receive(connection) for _ in range(3)]
    assert sorted(map(str, heard)) == sorted(map(str, [("forward", received), received, received]))
    process.join(20)
    assert process.exitcode == 0


def test_others_are_told_again_because_one_that_starts_late_misses_the_first_time() -> None:
    def deferring_for_long(connection: Connection) -> None:
        with stop_request.watched(), stop_request.deferred(lambda signum: connection.send(signum)):
            connection.send("ready")
            time.sleep(2.5 * stop_request.FORWARD_SECONDS)

    process, connection = start(deferring_for_long)
    assert receive(connection) == "ready"
    kill(process, signal.SIGTERM)
    assert [receive(connection) for _ in range(3)] == [signal.SIGTERM] * 3
    process.join(20)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_this_process_and_the_others_at_once(second: signal.Signals) -> None:
    process, connection = start(_deferring)
    assert receive(connection) == "ready"
    kill(process, signal.SIGTERM, second)
    process.join(20)
    assert process.exitcode == 128 + second
    heard = []
    while connection.poll():
        try:
            heard.append(connection.recv())
        except EOFError:
            break
    assert heard[-1] == ("forward", signal.SIGKILL)


def test_a_signal_while_nothing_has_begun_ends_the_process_at_once() -> None:
    process, connection = start(_watching)
    assert receive(connection) == "ready"
    kill(process, signal.SIGINT)
    process.join(20)
    assert process.exitcode == 128 + signal.SIGINT


def test_a_process_started_by_another_is_only_ever_asked() -> None:
    process, connection = start(_started_by_another)
    assert receive(connection) == "ready"
    kill(process, signal.SIGINT, signal.SIGTERM, signal.SIGINT)  # from the terminal, and from the first process
    assert [receive(connection) for _ in range(2)] == [signal.SIGINT] * 2
    process.join(20)
    assert process.exitcode == 0


def _start_another_and_wait(connection: Connection) -> None:
    if os.fork() == 0:
        _started_by_another(connection)
        os._exit(0)
    time.sleep(600)


def test_a_process_whose_first_process_dies_is_asked_to_stop() -> None:
    first, connection = start(_start_another_and_wait)
    assert receive(connection) == "ready"
    kill(first, signal.SIGKILL)
    assert receive(connection) == signal.SIGTERM
    first.join()


def test_after_the_watch_signals_do_what_they_did() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with stop_request.watched():
        assert {signal.SIGINT, signal.SIGTERM} <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert stop_request.requested() is None
    with pytest.raises(KeyboardInterrupt), stop_request.deferred(lambda signum: None):
        signal.raise_signal(signal.SIGINT)


def test_an_ignored_signal_stays_ignored() -> None:
    found = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_request.watched(), stop_request.deferred(lambda signum: None):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            assert stop_request.requested() is None
    finally:
        signal.signal(signal.SIGINT, found)


def _work_until_asked(connection: Connection, items: list[tuple[str, Path]], output: Path) -> None:
    names = []
    with stop_request.watched(), stop_request.deferred(lambda signum: None):
        job = FolderJob(output)
        for name, _ in job.pending(items):
            os.kill(os.getpid(), signal.SIGTERM)
            while stop_request.requested() is None:
                time.sleep(0.01)
            job.finish(name, f"{name}.lpc", b"coded", {})
            names.append(name)
        job.write_report(items)
    connection.send((names, job.report.failed))


def test_a_job_asked_to_stop_hands_out_no_other_item_and_claims_none(tmp_path: Path) -> None:
    items = [(f"{i}.png", tmp_path / f"{i}.png") for i in range(3)]
    for _, path in items:
        path.write_bytes(b"picture")
    process, connection = start(_work_until_asked, items, tmp_path / "out")
    assert receive(connection) == (["0.png"], 2)
    process.join(20)
    assert (tmp_path / "out" / "0.png.lpc").read_bytes() == b"coded"
    assert list((tmp_path / "out" / ".latentpress" / "claims").iterdir()) == []
