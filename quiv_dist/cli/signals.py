"""SIGTERM and SIGINT: the first drains, a second stops at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from quiv_dist.cli.errors import ExitCode

_ENDING = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """A signal came before there was anything to drain. Its argument names it.

    Of no exception that an application catches while it is imported.
    """


class Signals:
    """Handles the signals that end a process, from entering to leaving.

    Until ``running()``, a first signal raises ``Interrupted`` in the main thread; after it,
    ``wait()`` returns. A second one ends the process where it stands, with 128 + its number.

    It waits on a pipe that the interpreter itself writes to (``signal.set_wakeup_fd``) and not
    on a ``threading.Event``: a wait for a lock is not ended by a signal that came just before it
    or on another thread, and a handler that sets an event deadlocks in the middle of its wait.
    """

    def __init__(self) -> None:
        # Never closed: a thread may call `end` for as long as the process lives.
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._running = False
        self._cause = ""
        self._count = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _ENDING:
            self._previous[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def running(self) -> None:
        """From now on there is something to drain."""
        self._running = True

    def end(self, cause: str) -> None:
        """Make ``wait`` return, from any thread; the first cause counts."""
        self._cause = self._cause or cause
        # A full pipe wakes `wait` as well.
        with suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def wait(self) -> str:
        """Return why to end, when there is a reason. Called on the main thread."""
        # Only now: an event loop that the main thread ran before may have taken it away. A
        # signal from before this line has been handled when the cause is looked at.
        previous = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        while not self._cause:
            os.read(self._reader, 1024)
        signal.set_wakeup_fd(previous)
        return self._cause

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        # It runs between any two instructions of the main thread, so it must not log.
        name = signal.Signals(number).name
        self._count += 1
        if self._count > 1:
            sys.stderr.flush()
            os.write(2, f"a second signal ({name}): ended at once\n".encode())
            os._exit(ExitCode.SIGNALLED + number)
        if not self._running:
            raise Interrupted(name)
        self._cause = self._cause or name
