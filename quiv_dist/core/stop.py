"""The stop event that a job's handler is given.

It is a ``threading.Event`` to the handler, as in quiv. To the code around the handler it also
tells why it was set and whether the handler noticed: at a shutdown a handler that returned
without having looked has finished its work, one that looked may have cut it short.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from quiv_dist.models import StopReason

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger("Quiv")


class StopEvent(threading.Event):
    """An event with a reason, callbacks, and a record of having been looked at.

    ``is_set()`` and ``wait()`` are the handler's: answering true to either counts as seen.
    Everything else uses ``peek()``, which leaves no trace.
    """

    def __init__(self) -> None:
        super().__init__()
        self._change = threading.Lock()
        self._reason: StopReason | None = None
        self._seen = False
        self._callbacks: list[Callable[[], object]] = []

    @property
    def reason(self) -> StopReason | None:
        """Why the event was set: the reason of the first ``set()``; ``None`` while it is not."""
        return self._reason

    @property
    def seen(self) -> bool:
        """Whether ``is_set()`` or ``wait()`` has answered true since the event was set."""
        return self._seen

    def peek(self) -> bool:
        """Return whether the event is set, without counting as the handler's look."""
        return super().is_set()

    def is_set(self) -> bool:
        """Return whether the event is set; true counts as seen."""
        stopped = super().is_set()
        if stopped:
            self._seen = True
        return stopped

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds for the event; true counts as seen."""
        stopped = super().wait(timeout)
        if stopped:
            self._seen = True
        return stopped

    def set(self, reason: StopReason = StopReason.CANCEL) -> None:
        """Set the event and call the callbacks, on this thread; later calls change nothing.

        A handler that sets its own event without a reason cancels its job, as in quiv.
        """
        with self._change:
            if super().is_set():
                return
            # Before the flag, so that whoever is woken by it can read why.
            self._reason = reason
            super().set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            _call(callback)

    def clear(self) -> None:
        """Unset the event: the handler declines to stop, and its result will count."""
        with self._change:
            super().clear()
            self._reason = None
            self._seen = False

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once when the event is set, at once if it already is.

        It runs on the thread that sets the event, so it must be short and must not block.
        """
        with self._change:
            if not super().is_set():
                self._callbacks.append(callback)
                return
        _call(callback)

    def remove_callback(self, callback: Callable[[], object]) -> None:
        """Forget one registration of ``callback``; one that is unknown or was called is ignored."""
        with self._change:
            if callback in self._callbacks:
                self._callbacks.remove(callback)


def _call(callback: Callable[[], object]) -> None:
    # One waiter's fault must not keep the others, or the one who stops the job, from going on.
    try:
        callback()
    except Exception:
        _logger.exception("A callback of a stop event failed")
