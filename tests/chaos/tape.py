"""Everything that a namespace's event log ever held, read as it is written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import msgspec
from redis import exceptions as errors

from quiv_dist.core.wire import Envelope, decode_envelope
from quiv_dist.store.keys import Keys
from tests.chaos.raw import raw

_BLOCK_MS = 1_000


class Tape:
    """Follows the log over a connection of its own, with nothing of the product in between."""

    def __init__(self, url: str, namespace: str) -> None:
        self.events: list[Envelope] = []
        # Lives of the log that were seen: more than one when the server lost its data.
        self.lives: list[str] = []
        self._url = url
        self._key = Keys(namespace).key("log")
        self._last = "0-0"
        self._pids: dict[str, int] = {}
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    # Reading --------------------------------------------------------------------------------------

    def knows(self, node_id: str) -> bool:
        return node_id in self._pids

    def pid_of(self, node_id: str | None) -> int:
        """Return the process of a node, 0 for one that never joined."""
        return self._pids.get(node_id or "", 0)

    def of(self, *kinds: str) -> list[Envelope]:
        """Return the events of some kinds, in log order."""
        return [event for event in self.events if event.type in kinds]

    async def changed(self, timeout_s: float) -> bool:
        """Wait until something is added; `False` after `timeout_s`."""
        async with self._moved:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._moved.wait()
            except TimeoutError:
                return False
        return True

    async def first(
        self,
        wanted: Callable[[Envelope], object],
        *,
        timeout_s: float,
        what: str,
        since: int = 0,
    ) -> Envelope:
        """Wait for the first event that is wanted, beginning with number `since`."""
        deadline_s = time.monotonic() + timeout_s
        position = since
        while True:
            while position < len(self.events):
                event = self.events[position]
                position += 1
                if wanted(event):
                    return event
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"not within {timeout_s:g} s: {what}")
            await self.changed(left_s)

    async def drained(self, timeout_s: float = 10.0) -> None:
        """Wait until everything that is in the log now has been read."""
        async with raw(self._url) as client:
            found = await client.xrevrange(self._key, count=1)
        newest = found[0][0].decode() if found else "0-0"
        deadline_s = time.monotonic() + timeout_s
        while _number(self._last) < _number(newest):
            assert time.monotonic() < deadline_s, f"the tape is at {self._last}, not {newest}"
            await self.changed(0.2)

    # Following ------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            try:
                async with raw(self._url) as client:
                    while True:
                        await self._read(client)
            except (errors.RedisError, OSError):
                await asyncio.sleep(0.05)

    async def _read(self, client: Any) -> None:
        found = await client.xread({self._key: self._last}, count=1000, block=_BLOCK_MS)
        if not found:
            newest = await client.xrevrange(self._key, count=1)
            if newest and _number(newest[0][0].decode()) < _number(self._last):
                self._last = "0-0"  # another life of the server
            return
        async with self._moved:
            for entry_id, fields in found[0][1]:
                self._add(decode_envelope(fields[b"m"]))
                self._last = entry_id.decode()
            self._moved.notify_all()

    def _add(self, event: Envelope) -> None:
        if event.log not in self.lives:
            self.lives.append(event.log)
        if event.type == "node_joined" and event.node is not None:
            self._pids[event.node.id] = event.node.pid
        self.events.append(event)

    def dump(self) -> bytes:
        """Return the events as JSON lines, to look at after a failure."""
        return b"\n".join(map(msgspec.json.encode, self.events))


def _number(entry_id: str) -> tuple[int, int]:
    first, _, second = entry_id.partition("-")
    return int(first), int(second)
