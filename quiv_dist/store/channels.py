"""Pub/sub over a connection of its own.

A subscriber that reads slowly is cut off by the server, and a control channel doubles as the
node's presence, so neither shares its connection with anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from typing import NamedTuple

from redis import exceptions as errors

from quiv_dist.clock import monotonic_s
from quiv_dist.config import Settings
from quiv_dist.exceptions import ConfigurationError, RedisUnavailableError
from quiv_dist.store.connection import AtOnce, is_passing, open_client, redacted, translated

_CONNECTIONS = count(1)


class Message(NamedTuple):
    """One published message."""

    channel: str
    data: bytes


class Channel:
    """One subscribing connection: open it, read it, and throw it away when it breaks.

    ``number`` differs for each connection of the process, so that what was seen over an earlier
    one can be told from what is seen over this one.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        self.number = next(_CONNECTIONS)
        #: When the server was last heard from, seconds of the monotonic clock.
        self.heard_s = monotonic_s()
        self._url = url
        self._client = open_client(url, settings)
        self._client.connection_pool.connection_kwargs["retry"] = AtOnce()
        self._pubsub = self._client.pubsub()
        self._settings = settings
        self._acknowledged: dict[str, asyncio.Event] = {}

    async def open(self, channels: Iterable[str]) -> None:
        """Subscribe and wait for the acknowledgements; later messages are never missed.

        Raises:
            RedisUnavailableError: no connection, or no acknowledgement in time.
            ConfigurationError: the server refuses us.

        """
        names = list(channels)
        try:
            async with asyncio.timeout(self._settings.command_timeout_s):
                await self._pubsub.subscribe(*names)
                waiting = set(names)
                while waiting:
                    message = await self._pubsub.get_message(timeout=None)
                    if message is not None and message["type"] == "subscribe":
                        waiting.discard(message["channel"].decode())
        except (errors.RedisError, OSError) as error:
            raise self._failure(error) from error

    async def add(self, channel: str) -> None:
        """Subscribe to one more channel; returns when the server has acknowledged it.

        Needs another coroutine in ``next``: it is the one that reads the acknowledgement.
        """
        acknowledged = self._acknowledged.setdefault(channel, asyncio.Event())
        try:
            await self._pubsub.subscribe(channel)
            async with asyncio.timeout(self._settings.command_timeout_s):
                await acknowledged.wait()
        except (errors.RedisError, OSError) as error:
            raise self._failure(error) from error

    async def remove(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        self._acknowledged.pop(channel, None)
        try:
            await self._pubsub.unsubscribe(channel)
        except (errors.RedisError, OSError) as error:
            raise self._failure(error) from error

    async def next(self, timeout_s: float | None) -> Message | None:
        """Return the next message, or ``None`` after ``timeout_s``.

        Raises:
            RedisUnavailableError: the connection broke; this object is of no use any more.

        """
        deadline = None if timeout_s is None else monotonic_s() + timeout_s
        while True:
            left = None if deadline is None else max(0.0, deadline - monotonic_s())
            try:
                message = await self._pubsub.get_message(timeout=left)
            except (errors.RedisError, OSError) as error:
                raise self._failure(error) from error
            if message is None:
                return None
            self.heard_s = monotonic_s()
            if message["type"] == "message":
                return Message(message["channel"].decode(), message["data"])
            # An acknowledgement, or the answer to a ping: read on, or a ping would call the next.
            acknowledged = self._acknowledged.get((message["channel"] or b"").decode())
            if message["type"] == "subscribe" and acknowledged is not None:
                acknowledged.set()

    async def ping(self) -> None:
        """Ask the server to answer: a dead connection shows itself as an error in ``next``."""
        try:
            await self._pubsub.ping()
        except (errors.RedisError, OSError) as error:
            raise self._failure(error) from error

    async def close(self) -> None:
        """Close the connection."""
        with suppress(errors.RedisError, OSError):
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
        with suppress(errors.RedisError, OSError):
            await self._client.aclose()

    def _failure(self, error: Exception) -> Exception:
        if is_passing(error) or isinstance(error, TimeoutError):
            return RedisUnavailableError(f"Redis at {redacted(self._url)} went away: {error}")
        found = translated(error, self._url)
        return found if isinstance(found, ConfigurationError) else RedisUnavailableError(str(error))
