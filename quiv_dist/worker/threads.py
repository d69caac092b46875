"""A bounded pool of threads that never keeps its process from ending.

``concurrent.futures`` joins its threads when the interpreter exits, so a handler that is stuck
would hold the process for ever. These are daemon threads: work is drained by who owns the pool.
"""

from __future__ import annotations

import itertools
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger

_pool_numbers = itertools.count(1)


class DaemonThreads:
    """Runs callables on up to ``limit`` threads, started as they are first needed.

    ``post`` and ``close`` are called from one thread.
    """

    def __init__(self, limit: int, logger: Logger) -> None:
        self._limit = limit
        self._logger = logger
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._name = f"quiv-worker-{next(_pool_numbers)}"

    def post(self, call: Callable[[], object], *, busy: int) -> None:
        """Run ``call`` on a thread; ``busy`` is how many calls are then unfinished, it included."""
        self._work.put(call)
        if len(self._threads) < min(busy, self._limit):
            thread = threading.Thread(
                target=self._run, name=f"{self._name}-{len(self._threads) + 1}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Let each thread end after what it is doing; what still waits is run first."""
        for _ in self._threads:
            self._work.put(None)

    def _run(self) -> None:
        while True:
            call = self._work.get()
            if call is None:
                return
            try:
                call()
            except BaseException:
                # A thread that died would be a slot lost for good, without a word.
                self._logger.exception("A worker thread failed outside of a handler")
            # Not until the next call: what it refers to may be large.
            del call
