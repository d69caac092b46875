"""The application's main event loop: which it is, and what was handed to it.

quiv-dist runs event loops of its own: of a worker, of the facade's I/O, one for each isolated
run, temporary ones for listeners. None is ever mistaken for the application's, or a listener
would run in the middle of quiv-dist's own work; so each is marked when it is made.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable

_own_loops_lock = threading.Lock()
# Values: whether the loop is shared. Weak, so that a loop made for one run does not stay.
_own_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, bool] = weakref.WeakKeyDictionary()


def mark_own_loop(loop: asyncio.AbstractEventLoop, *, shared: bool) -> None:
    """Record that ``loop`` belongs to quiv-dist, so that it never counts as the main loop.

    Args:
        loop: The loop, before anything runs on it.
        shared: Whether other work runs on it too (a worker's loop, the facade's). Blocking
            calls are refused there; on a loop of one isolated run they harm nobody.
    """
    with _own_loops_lock:
        _own_loops[loop] = shared


def is_own_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop is one of quiv-dist's own."""
    with _own_loops_lock:
        return loop in _own_loops


def is_shared_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop is one of quiv-dist's own that must not be blocked."""
    with _own_loops_lock:
        return _own_loops.get(loop, False)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs on the calling thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class MainLoop:
    """The application's main loop, given or found.

    A loop that is given stays the one for good: when it is closed, there is none. Without one,
    the first loop of the application seen running where ``adopt()`` or ``resolve()`` is called
    is taken, and kept until it is closed, so that a program that runs one loop after another
    finds the current one.
    """

    def __init__(self, given: asyncio.AbstractEventLoop | None = None) -> None:
        self._given = given is not None
        self._loop = given
        self._lock = threading.Lock()

    def adopt(self) -> None:
        """At ``start()``: take the loop running here, unless one is already known."""
        self.resolve()

    def resolve(self) -> asyncio.AbstractEventLoop | None:
        """Return the main loop, or ``None`` while it is closed or none was found."""
        with self._lock:
            known = self._loop
            if known is not None and not known.is_closed():
                return None if is_own_loop(known) else known
            if self._given:
                return None
            here = running_loop()
            self._loop = None if here is None or is_own_loop(here) else here
            return self._loop


class MainLoopWork:
    """What was handed to the main loop and has not finished.

    Each hand-over counts from before the loop can know of it until it has settled, so that the
    count never reads lower than the truth: an application closes its loop when it reads zero.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[HandOver] = set()

    def begin(self) -> HandOver:
        """Count one hand-over. Call before the loop is told of it."""
        hand_over = HandOver(self._discard)
        with self._lock:
            self._open.add(hand_over)
        return hand_over

    def pending(self) -> int:
        """Return how many hand-overs have not settled."""
        with self._lock:
            return len(self._open)

    def _discard(self, hand_over: HandOver) -> None:
        with self._lock:
            self._open.discard(hand_over)


class HandOver:
    """One piece of work on its way through the main loop."""

    __slots__ = ("_discard", "_future")

    def __init__(self, discard: Callable[[HandOver], None]) -> None:
        self._discard = discard
        self._future: object = None

    def follow(self, future: asyncio.Future[Any] | concurrent.futures.Future[Any]) -> None:
        """End when ``future`` does, and keep it until then.

        A loop refers to its tasks only weakly: one that nothing else holds can be collected
        in the middle of its work, without a word. An asyncio future is followed from the
        thread of its loop.
        """
        self._future = future
        future.add_done_callback(self._settled)

    def end(self) -> None:
        """Stop counting, whatever the outcome; ending twice is once."""
        self._future = None
        self._discard(self)

    def _settled(self, _future: object) -> None:
        self.end()
