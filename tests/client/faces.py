"""The two faces in one shape, and listeners that can be waited for."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from quiv_dist import AsyncQuiv, Event

# Long enough for a loaded machine; nothing waits for it when all is well.
LIMIT_S = 20.0


class LoopThread:
    """An application's event loop, running on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._main, name="app-loop", daemon=True)
        self.thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT_S)

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the loop's thread."""

        async def here() -> Any:
            return func(*args)

        return self.run(here())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LIMIT_S)

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()


class OnLoop:
    """An ``AsyncQuiv`` whose coroutines are awaited on an application's loop."""

    def __init__(self, quiv: AsyncQuiv, app: LoopThread) -> None:
        self.quiv = quiv
        self.app = app

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.quiv, name)
        if not inspect.iscoroutinefunction(value):
            return value
        return lambda *args, **kwargs: self.app.run(value(*args, **kwargs))


class Call(NamedTuple):
    """One call of a listener."""

    event: Event
    payload: tuple[Any, ...]
    thread: str


class Heard:
    """A listener that keeps what it hears, and lets tests wait for it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event, *payload: Any) -> None:
        with self._changed:
            self.calls.append(Call(event, payload, threading.current_thread().name))
            self._changed.notify_all()

    @property
    def kinds(self) -> list[Event]:
        return [call.event for call in self.calls]

    def wait_for(self, *kinds: Event) -> list[Call]:
        """Wait until these kinds were heard, as often as they are given."""
        wanted = sorted(kinds)
        with self._changed:
            done = self._changed.wait_for(
                lambda: all(self.kinds.count(kind) >= wanted.count(kind) for kind in wanted),
                LIMIT_S,
            )
            assert done, f"heard only {[kind.value for kind in self.kinds]}"
            return list(self.calls)


@contextmanager
def meanwhile(call: Callable[..., Any], *args: Any) -> Iterator[None]:
    """Make a call from another thread while the block waits; at its end the call has returned."""
    timer = threading.Timer(0.05, call, args)
    timer.start()
    yield
    timer.join(LIMIT_S)
    assert not timer.is_alive()


def eventually(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait for what nobody announces; return its truth."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come"
        threading.Event().wait(0.02)
    return found
