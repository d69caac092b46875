"""An application's main loop, on a thread of its own, for tests without one."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# No test waits this long unless what it waits for never comes.
DEADLINE_S = 20.0


@contextmanager
def loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop on a thread until the block ends, then close it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="application")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()


def settle(loop: asyncio.AbstractEventLoop) -> None:
    """Return once the loop has run everything handed to it so far, and what that started.

    For callbacks that do not wait for anything themselves.
    """

    async def turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run_coroutine_threadsafe(turns(), loop).result(DEADLINE_S)


def in_thread(call: Callable[[], object]) -> threading.Thread:
    """Start ``call`` on a new daemon thread."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread
