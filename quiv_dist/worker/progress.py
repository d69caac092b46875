"""Progress of running jobs, thinned to ten updates a second a job; the last always goes out."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from quiv_dist.clock import monotonic_s
from quiv_dist.core.wire import Progress
from quiv_dist.exceptions import ConfigurationError, QuivError
from quiv_dist.store.partition import Partition

_INTERVAL_S = 0.1


class ProgressSender:
    """Publishes the progress of one delivery. Called on any thread, sends on the loop's."""

    def __init__(
        self,
        partition: Partition,
        loop: asyncio.AbstractEventLoop,
        logger: logging.Logger,
        *,
        node_id: str,
        job_id: str,
        delivery: int,
    ) -> None:
        self._partition = partition
        self._loop = loop
        self._logger = logger
        self._key = (node_id, job_id, delivery)
        # Set on the handler's thread, so that the end of the job finds it, whichever of the two
        # reaches the loop first.
        self._newest: bytes | None = None
        self._lock = threading.Lock()
        self._sending: asyncio.Task[None] | None = None
        self._sent_s = float("-inf")

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Publish a payload.

        Raises:
            ConfigurationError: a value cannot be encoded; the message names its key.

        """
        body = _encode(args, kwargs)
        with self._lock:
            self._newest = body
        if _running_loop() is self._loop:
            self._begin()
            return
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin)

    @property
    def pending(self) -> bool:
        """Whether a payload has not gone out yet."""
        return self._newest is not None or (self._sending is not None and not self._sending.done())

    async def flush(self) -> None:
        """Wait until the newest payload has gone out."""
        self._begin()
        if self._sending is not None:
            await asyncio.wait([self._sending])

    def _begin(self) -> None:
        if self._newest is not None and (self._sending is None or self._sending.done()):
            self._sending = asyncio.create_task(self._send())

    def _take(self) -> bytes | None:
        with self._lock:
            body, self._newest = self._newest, None
        return body

    async def _send(self) -> None:
        while self._newest is not None:
            wait_s = self._sent_s + _INTERVAL_S - monotonic_s()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            body = self._take()
            if body is None:
                return
            self._sent_s = monotonic_s()
            try:
                await self._partition.progress(*self._key, body)
            except QuivError as error:
                self._logger.warning("progress of job %s was lost: %s", self._key[1], error)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _encode(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(Progress(list(args), dict(kwargs)))
    except (TypeError, ValueError, OverflowError):
        named = [*((f"args[{i}]", v) for i, v in enumerate(args)), *kwargs.items()]
        for key, value in named:
            try:
                msgspec.json.encode(value)
            except (TypeError, ValueError, OverflowError) as error:
                msg = f"progress_hook: {key}={value!r} cannot be encoded as JSON: {error}"
                raise ConfigurationError(msg) from error
        raise
