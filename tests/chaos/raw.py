"""A plain client of the server, with nothing of the product in between."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis


def raw(url: str, *, timeout_s: float = 10.0) -> Any:
    """Return a client, to be used in an `async with`. Untyped: replies here are bytes always."""
    return Redis.from_url(url, socket_timeout=timeout_s)
