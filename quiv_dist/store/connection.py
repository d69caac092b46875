"""Connections, and what their failures mean.

One connection for commands, one for blocking reads, one for each subscription are enough for a
process: a connection per task is how a pool stalls under load.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from redis import exceptions as errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from quiv_dist.clock import monotonic_s
from quiv_dist.config import Settings
from quiv_dist.exceptions import ConfigurationError, RedisUnavailableError
from quiv_dist.service import Backoff

T = TypeVar("T")
Refusal = Literal["missing", "command", "key", "channel"]

_CONNECTIONS = 8
# Answers of a server that will do the same thing later: starting, failing over, out of memory.
_PASSING = ("LOADING", "BUSY ", "NOREPLICAS", "MISCONF", "UNBLOCKED")
# The same of those whose word the client strips, so that only the class tells.
_PASSING_ERRORS = (
    errors.ReadOnlyError,
    errors.OutOfMemoryError,
    errors.ClusterDownError,
    errors.TryAgainError,
)
# After a failover behind one address the pool still holds sockets to the demoted server.
_MOVED = (errors.ReadOnlyError, errors.MasterDownError)


def redacted(url: str) -> str:
    """Return ``url`` without its password, for messages and logs, whatever ``url`` is."""
    # Up to the last @: a password with a slash or an @ in it, which a URL must not have, goes too.
    shown = re.sub(r"://([^:@/]*):.*@", r"://\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", shown)


def check_url(value: object) -> str:
    """Return the URL of a server.

    Raises:
        ConfigurationError: it is none; the message shows no password.

    """
    try:
        parts = urlsplit(value if isinstance(value, str) and "://" in value else "")
        if parts.scheme == "unix":
            accepted = bool(parts.path)
        else:
            # The client library takes any other path for database 0. The port is parsed by the
            # property, which raises for one that is no number.
            accepted = parts.scheme in {"redis", "rediss"} and parts.port != 0
            accepted = accepted and re.fullmatch(r"(/\d*)?", parts.path) is not None
    except ValueError:
        accepted = False
    if accepted:
        return str(value)
    shown = redacted(value) if isinstance(value, str) else value
    msg = (
        f"redis_url={shown!r} is not accepted: give redis://host:port/db, rediss:// for TLS, or"
        " unix://path"
    )
    raise ConfigurationError(msg)


def open_client(url: str, settings: Settings, *, read_timeout_s: float | None = None) -> Redis:
    """Return a client that connects on first use.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        settings: timeouts.
        read_timeout_s: how long a reply may take; ``command_timeout_s`` by default, 0 for ever.

    Raises:
        ConfigurationError: the URL cannot be parsed.

    """
    timeout = settings.command_timeout_s if read_timeout_s is None else read_timeout_s or None
    try:
        client = Redis.from_url(
            check_url(url),
            protocol=2,
            socket_timeout=timeout,
            socket_connect_timeout=settings.connect_timeout_s,
            max_connections=_CONNECTIONS,
            retry=Retry(NoBackoff(), 0),
        )
    except (ValueError, TypeError) as error:
        msg = f"redis_url={redacted(url)!r} is not accepted: {error}"
        raise ConfigurationError(msg) from error
    pool: Any = client.connection_pool
    pool.connection_class = _broken_writes_told(pool.connection_class)
    # Replies come as the server sends them: no per-command reshaping that varies by version.
    client.response_callbacks.clear()
    return client


@cache
def _broken_writes_told(connection_class: Any) -> Any:
    """Return a connection class whose writes to a closed connection are connection errors.

    Under uvloop such a write is a bare RuntimeError, if the server went between the look whether
    the connection is alive and the write.
    """

    class Connection(connection_class):  # type: ignore[misc]
        async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
            try:
                await super().send_packed_command(*args, **kwargs)
            except RuntimeError as error:
                if "handler is closed" not in str(error):
                    raise
                raise errors.ConnectionError(str(error)) from error

    return Connection


async def execute(client: Redis, *command: Any) -> Any:
    """Run a command; the reply comes as the server sent it."""
    try:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]
    except _MOVED:
        await client.connection_pool.disconnect(inuse_connections=False)
        raise


class AtOnce(Retry):
    """No retry, and no reconnect either before the failure is told.

    The client reconnects on the way to raising. A subscriber must hear first that it was cut off.
    """

    def __init__(self) -> None:
        super().__init__(NoBackoff(), 0)

    async def call_with_retry(
        self, do: Callable[..., Awaitable[T]], *_args: Any, **_kwargs: Any
    ) -> T:
        """Call once."""
        return await do()


def is_passing(error: Exception) -> bool:
    """Tell whether the same command may succeed later, with nothing changed here."""
    if isinstance(error, _PASSING_ERRORS):
        return True
    if isinstance(error, errors.AuthenticationError | errors.AuthorizationError):
        return False
    if isinstance(error, errors.ConnectionError | errors.TimeoutError | OSError):
        return True
    return isinstance(error, errors.ResponseError) and str(error).startswith(_PASSING)


async def until_answered(
    act: Callable[[], Awaitable[T]],
    settings: Settings,
    url: str,
    timeout_s: float,
    *,
    resend: bool = True,
) -> T:
    """Run ``act`` until the server answers, for at most ``timeout_s``; once without ``resend``.

    Raises:
        RedisUnavailableError: no answer in time. The call may have been stored.
        ConfigurationError: the server refuses us: password, user, database.

    """
    deadline = monotonic_s() + timeout_s
    backoff = Backoff(settings)
    while True:
        try:
            async with asyncio.timeout(max(0.001, deadline - monotonic_s())):
                return await act()
        except TimeoutError as error:
            raise _unavailable(url, timeout_s, error) from error
        except (errors.RedisError, OSError) as error:
            if not is_passing(error):
                raise translated(error, url) from error
            wait = backoff.next_s()
            if not resend or monotonic_s() + wait >= deadline:
                raise _unavailable(url, timeout_s, error) from error
            await asyncio.sleep(wait)


def _unavailable(url: str, timeout_s: float, error: Exception) -> RedisUnavailableError:
    detail = str(error) or type(error).__name__
    return RedisUnavailableError(
        f"Redis at {redacted(url)} gave no answer in {timeout_s:g} s: {detail}"
    )


def refusal(text: str) -> Refusal | None:
    """Tell what an error refuses; ``None`` for one that a permitted command ends with.

    The words are those of Redis 6.2, Redis 7 and Valkey, to clients and to scripts.
    """
    found = text.lower()
    if ("unknown" in found and "command" in found) or "syntax error" in found:
        return "missing"
    if "permission" not in found and "user executing the script" not in found:
        return None
    if "channel" in found:
        return "channel"
    return "key" if " key" in found else "command"


def translated(error: Exception, url: str) -> Exception:
    """Return the error to show for one that waiting does not cure."""
    text = str(error)
    refused = isinstance(error, errors.AuthenticationError | errors.AuthorizationError)
    kind = refusal(text) if isinstance(error, errors.ResponseError) else None
    refused = refused or kind in {"command", "key", "channel"}
    if refused or text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")) or "DB index" in text:
        return ConfigurationError(f"Redis at {redacted(url)} refuses this user or database: {text}")
    if isinstance(error, errors.InvalidResponse):
        return ConfigurationError(
            f"what answers at {redacted(url)} does not speak the Redis protocol ({text})"
        )
    if kind == "missing":
        return ConfigurationError(
            f"Redis at {redacted(url)} lacks a needed command ({text}): Redis 6.2 or later, or"
            " Valkey, is needed"
        )
    return error
