"""SIGINT (Ctrl-C) and SIGTERM ask a folder job to stop: it finishes the file it works on, and begins no other.

Handlers would not do: they run between two steps of the main thread, which may be deep in a convolution or
waiting for another process, and Lightning puts one of its own, which waits for every other process, in front
of any it finds. So all threads block the two signals, and one thread of ours waits for them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Forward = Callable[[int], object]
"""Sends a signal to the other processes of a job."""

FORWARD_SECONDS = 1.0
"""Between two times that other processes are told: one that is about to start misses the first."""

ENDED = "ended at once; the same command goes on"
STOPPING = "stopping after the current file; once more ends at once"


class Watch:
    """Takes the two signals while it runs.

    The first one during `deferred` is a request; any other one ends all processes of the job at once. In a
    process that was started by another one of the job (it finds LOCAL_RANK set) signals are only ever
    requests: Ctrl-C reaches it twice, from the terminal and from the first process, which also ends it.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._parent = os.getppid() if "LOCAL_RANK" in os.environ else None
        self._forward: Forward | None = None
        self._closed = threading.Event()

    @property
    def request(self) -> signal.Signals | None:
        """Return the signal that asks to stop; the death of the job's first process is SIGTERM to the others."""
        if self._parent is not None and os.getppid() != self._parent:
            return signal.SIGTERM
        return self.received

    @contextmanager
    def running(self) -> Iterator[None]:
        """Call it before anything starts a thread: threads inherit what is blocked, and so do processes."""
        # a shell lets what it starts in the background ignore the Ctrl-C that is meant for others
        signals = {each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN}
        found = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        listener = threading.Thread(target=self._listen, args=(signals,), name="stop request", daemon=True)
        listener.start()
        try:
            yield
        finally:
            self._closed.set()
            if listener.ident is not None and signals:
                signal.pthread_kill(listener.ident, min(signals))
            listener.join()
            signal.pthread_sigmask(signal.SIG_SETMASK, found)

    @contextmanager
    def deferred(self, forward: Forward) -> Iterator[None]:
        """Within, the first signal is a request, which `forward` passes on."""
        self._forward = forward
        try:
            yield
        finally:
            self._forward = None

    def _listen(self, signals: set[signal.Signals]) -> None:
        while signals:
            received = signal.Signals(signal.sigwait(signals))
            if self._closed.is_set():
                return
            if self._parent is not None:
                self.received = self.received or received
            elif self.received is not None or self._forward is None:
                self._end(received)
            else:
                self.received = received
                _say(STOPPING)
                threading.Thread(target=self._keep_forwarding, name="stop others", daemon=True).start()

    def _keep_forwarding(self) -> None:
        while self._forward is not None and self.received is not None:
            self._forward(self.received)
            if self._closed.wait(FORWARD_SECONDS):
                return

    def _end(self, received: signal.Signals) -> None:
        """Nothing to clean up: a job survives this as it survives kill -9."""
        if self._forward is not None:
            self._forward(signal.SIGKILL)
        _say(ENDED)
        os._exit(128 + received)


_watch: Watch | None = None


@contextmanager
def watched() -> Iterator[None]:
    """Within, signals are requests to stop, of this process; see `Watch.running`."""
    global _watch
    watch = _watch = Watch()
    try:
        with watch.running():
            yield
    finally:
        _watch = None


@contextmanager
def deferred(forward: Forward) -> Iterator[None]:
    """Do as `Watch.deferred` where signals are watched; elsewhere they do what they always do."""
    if _watch is None:
        yield
        return
    with _watch.deferred(forward):
        yield


def requested() -> signal.Signals | None:
    """Return the signal by which this process has been asked to stop."""
    return None if _watch is None else _watch.request


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
