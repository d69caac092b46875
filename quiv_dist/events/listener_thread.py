"""The one thread on which listeners run when no call of this process caused the event.

It has no event loop. A slow listener therefore delays other listeners and nothing else: not
the subscription that feeds it, not jobs, not lease renewal.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Calls waiting when the log starts to say that listeners do not keep up.
BACKLOG_WARNING = 10_000


class ListenerThread:
    """A daemon thread that makes calls one by one, in the order they were posted.

    It serves one life: after ``stop()`` it does not start again.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("Quiv")
        self._calls: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._started = False
        self._stopping = False
        self._behind = False
        self._thread = threading.Thread(target=self._run, name="quiv-listeners", daemon=True)

    @property
    def backlog(self) -> int:
        """How many calls wait; whoever posts may slow down by it."""
        return len(self._calls)

    def start(self) -> None:
        """Start the thread; a second call, and one after ``stop()``, does nothing."""
        with self._changed:
            if self._started or self._stopping:
                return
            self._started = True
            self._thread.start()

    def post(self, call: Callable[[], object]) -> bool:
        """Queue a call without waiting. Calls posted before ``start()`` are made after it.

        Returns:
            False if the thread was stopped and the call dropped.
        """
        with self._changed:
            if not self._stopping:
                self._calls.append(call)
                self._changed.notify()
                self._warn_when_behind()
                return True
        self._logger.debug("Listeners were stopped; dropped a call of %r", call)
        return False

    def stop(self, timeout_s: float) -> bool:
        """Accept no more calls, make those that wait, and end.

        Args:
            timeout_s: Seconds to wait. What has not been called by then is dropped with a
                warning; the call that is being made goes on, on a daemon thread.

        Returns:
            Whether the thread has ended. False at once when a listener itself calls this.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
            if not self._started:
                self._calls.clear()
                return True
        if threading.current_thread() is self._thread:
            return False
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            return True
        with self._changed:
            dropped = len(self._calls)
            self._calls.clear()
        self._logger.warning(
            "A listener was still running %.1f s after the stop; %d waiting call(s) dropped",
            timeout_s,
            dropped,
        )
        return False

    def _warn_when_behind(self) -> None:
        if len(self._calls) >= BACKLOG_WARNING and not self._behind:
            self._behind = True
            self._logger.warning(
                "Listeners do not keep up: %d calls wait for the one that runs",
                len(self._calls),
            )

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            while not self._calls and not self._stopping:
                self._behind = False
                self._changed.wait()
            return self._calls.popleft() if self._calls else None

    def _run(self) -> None:
        while (call := self._next()) is not None:
            try:
                call()
            except BaseException:
                # sys.exit() in a listener ends neither this thread nor the process.
                self._logger.exception("A call on the listener thread failed: %r", call)
