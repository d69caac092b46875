"""The one skeleton of every long-running loop: start, tick, wait, stop, one exception policy.

A service says in ``tick`` what to do once and how long to wait until the next time; ``wake``
ends a wait early. Redis going away is never fatal: it is logged once when it goes and once when
it is back, and retried with growing waits. Any other error is logged with its traceback and the
service goes on: one bad pass must not end a scheduler.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress

from quiv_dist.config import Settings
from quiv_dist.exceptions import RedisUnavailableError


class Backoff:
    """Growing waits with jitter, from ``backoff_first_s`` to ``backoff_most_s``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._next_s = settings.backoff_first_s

    def reset(self) -> None:
        """Begin again after a success."""
        self._next_s = self._settings.backoff_first_s

    def next_s(self) -> float:
        """Return how long to wait now: half of it fixed, half random."""
        wait = self._next_s * (0.5 + random.random() / 2)  # noqa: S311 - not a secret
        self._next_s = min(self._next_s * 2, self._settings.backoff_most_s)
        return wait


class Service:
    """A loop on the running event loop.

    Subclasses write ``tick`` and may write ``failed``, which is told of every error before the
    policy handles it, and ``closed``, which runs once when the loop ends.
    """

    name = "service"

    def __init__(self, settings: Settings, logger: logging.Logger) -> None:
        self.settings = settings
        self.logger = logger
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._backoff = Backoff(settings)
        self._away = False

    async def tick(self) -> float | None:
        """Do one pass; return the seconds to wait for the next, ``None`` to wait for a wake."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """Hear of an error of a pass."""

    async def closed(self) -> None:
        """Clean up after the last pass."""

    @property
    def stopping(self) -> bool:
        """Whether the service was asked to stop."""
        return self._stopping

    def start(self) -> None:
        """Begin to run."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"quiv-{self.name}")

    def wake(self) -> None:
        """End the current wait, or make the next one end at once."""
        self._wake.set()

    async def stop(self) -> None:
        """End after the current pass."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def abort(self) -> None:
        """End now, in the middle of a pass if need be."""
        self._stopping = True
        # A pass that swallows its cancellation must not go on to a wait.
        self._wake.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while not self._stopping:
                await self._wait(await self._pass())
        finally:
            await self.closed()

    async def _pass(self) -> float | None:
        try:
            wait = await self.tick()
        except RedisUnavailableError as error:
            if not self._away:
                self._away = True
                self.logger.warning("%s: %s; retrying", self.name, error)
            self.failed(error)
            return self._backoff.next_s()
        except Exception as error:
            self.logger.exception("%s: a pass failed", self.name)
            self.failed(error)
            return self._backoff.next_s()
        if self._away:
            self._away = False
            self.logger.warning("%s: Redis answers again", self.name)
        self._backoff.reset()
        return wait

    async def _wait(self, seconds: float | None) -> None:
        if seconds is None or seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        else:
            await asyncio.sleep(0)
        self._wake.clear()
