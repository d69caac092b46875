"""One subscribing connection, and the messages that came over it.

Its reader never waits for whoever uses the messages: the server cuts off a subscriber that reads
slowly. What finds no room is dropped, and the event log has it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from quiv_dist.store.channels import Channel, Message

# How long one read waits; only the cadence of a loop that has nothing else to do. Not for ever:
# some versions of the client library take that as their timeout for replies, and break.
_READ_S = 10.0


class Subscription:
    """A connection with its reader; of no use any more once it has broken.

    Args:
        channel: The connection, not open yet.
        most: Messages kept for the user at most.
        on_message: Called when there is something to do: a first message waits, or the
            connection has broken.
    """

    def __init__(self, channel: Channel, most: int, on_message: Callable[[], None]) -> None:
        self.names: set[str] = set()
        self._channel = channel
        self._most = most
        self._on_message = on_message
        self._messages: deque[Message] = deque()
        self._overflowed = False
        self._reader: asyncio.Task[None] | None = None

    async def open(self, names: Iterable[str]) -> None:
        """Subscribe; returns when the server has acknowledged all of it.

        Raises:
            RedisUnavailableError: no connection, or no acknowledgement in time.
            ConfigurationError: the server refuses us.
        """
        self.names = set(names)
        await self._channel.open(self.names)
        self._reader = asyncio.create_task(self._read(), name="quiv-events-reader")
        self._reader.add_done_callback(lambda _: self._on_message())

    async def match(self, names: set[str]) -> None:
        """Subscribe to what is missing, acknowledged on return, and unsubscribe from the rest.

        Raises:
            RedisUnavailableError: the connection has broken.
            ConfigurationError: the server refuses us.
        """
        self.check()
        for name in sorted(names - self.names):
            await self._add(name)
            self.names.add(name)
        for name in sorted(self.names - names):
            self.names.discard(name)
            await self._channel.remove(name)

    def check(self) -> None:
        """Raise what broke the connection, if it has broken."""
        if self._reader is not None and self._reader.done():
            self._reader.result()

    @property
    def has_messages(self) -> bool:
        """Whether messages wait."""
        return bool(self._messages)

    def take(self, most: int) -> list[Message]:
        """Return the oldest messages, at most so many."""
        return [self._messages.popleft() for _ in range(min(most, len(self._messages)))]

    def take_overflow(self) -> bool:
        """Tell whether messages were dropped; from now on they are kept again."""
        overflowed, self._overflowed = self._overflowed, False
        return overflowed

    async def probe(self, name: str) -> None:
        """Have the server answer over this connection; a dead one is told by nothing else.

        Args:
            name: A channel to subscribe to for the moment: the acknowledgement is the answer.

        Raises:
            RedisUnavailableError: no answer in time; the connection is dead or broken.
        """
        await self._add(name)
        await self._channel.remove(name)

    async def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
            if not self._reader.cancelled():
                self._reader.exception()  # known by whoever called check(), or of no interest
        await self._channel.close()

    async def _add(self, name: str) -> None:
        # The reader brings the acknowledgement, and an error in its place; so wait for either.
        assert self._reader is not None
        adding = asyncio.ensure_future(self._channel.add(name))
        try:
            await asyncio.wait({adding, self._reader}, return_when=asyncio.FIRST_COMPLETED)
            self.check()
            await adding
        finally:
            if not adding.done():
                adding.cancel()
                with suppress(asyncio.CancelledError):
                    await adding

    async def _read(self) -> None:
        while True:
            message = await self._channel.next(_READ_S)
            if message is None:
                continue
            # Once one was dropped all are, until the log was read, or they would overtake it.
            if self._overflowed or len(self._messages) >= self._most:
                self._overflowed = True
                continue
            self._messages.append(message)
            if len(self._messages) == 1:
                self._on_message()
