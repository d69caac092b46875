"""Which server and namespace a command works on, and reaching them at the start."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from quiv_dist import embedded
from quiv_dist.cli import app as apps
from quiv_dist.cli import logs
from quiv_dist.cli.errors import ExitCode, Failure
from quiv_dist.config import DEFAULT_NAMESPACE
from quiv_dist.facade import Quiv
from quiv_dist.store.namespace import Store

T = TypeVar("T")

NO_REDIS = (
    "no Redis is configured: set QUIV_REDIS_URL, or pass -u redis://HOST:PORT/DB, or give the"
    " application redis_url="
)


def was_flag(name: str) -> bool:
    """Tell whether a parameter was given on the command line, not by variable or default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


async def check_connection(url: str, namespace: str, timeout_s: float) -> None:
    """Try until the server answers and the namespace is open.

    Raises:
        RedisUnavailableError: it did not within ``timeout_s``.
        ConfigurationError: it refuses us.
        SchemaVersionError: the namespace was written by an unsupported version.

    """
    store = Store(url, namespace)
    try:
        await store.open(timeout_s=timeout_s)
    finally:
        await store.close()


@dataclass(frozen=True)
class Target:
    """A namespace on a server that answered."""

    url: str
    namespace: str

    @contextmanager
    def quiv(self) -> Iterator[Quiv]:
        """Give an instance that makes calls and runs nothing."""
        quiv = Quiv(redis_url=self.url, namespace=self.namespace, roles={"listener"})
        try:
            yield quiv
        finally:
            quiv.shutdown(0)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """Give the namespace itself, open."""
        store = Store(self.url, self.namespace)
        try:
            await store.open()
            yield store
        finally:
            await store.close()

    def read(self, act: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function on the open namespace."""

        async def run() -> T:
            async with self.store() as store:
                return await act(store)

        return asyncio.run(run())


@contextmanager
def target(
    *,
    redis_url: str | None,
    namespace: str | None,
    connect_timeout_s: float,
    app: str | None,
    app_dir: Path,
) -> Iterator[Target]:
    """Give the namespace that a command looks at.

    The server is that of the flag, of ``--app``, of ``QUIV_REDIS_URL``, or else the embedded one
    of this working directory, if there has been one: that is what ``quiv up`` uses.

    Raises:
        Failure: no server is named, or the application cannot be imported.
        QuivError: the server cannot be used.

    """
    logs.set_up("warning", "text")
    url, name = redis_url, namespace
    if app is not None:
        with embedded.refusing(Failure(NO_REDIS, ExitCode.USAGE)):
            settings = apps.load(app, app_dir).instance.settings
        url = redis_url if was_flag("redis_url") else settings.redis_url or redis_url
        name = namespace if was_flag("namespace") else settings.namespace or namespace
    held = None
    if url is None:
        held = _embedded_of_directory()
        url = held.url
    try:
        found = Target(url, name or DEFAULT_NAMESPACE)
        asyncio.run(check_connection(found.url, found.namespace, connect_timeout_s))
        yield found
    finally:
        if held is not None:
            held.close()


def _embedded_of_directory() -> embedded.EmbeddedServer:
    if not Path(embedded.STATE_DIRECTORY).is_dir():
        msg = f"{NO_REDIS}; or work in a directory where `quiv up` runs"
        raise Failure(msg, ExitCode.USAGE)
    # Who looks at it knows that it is the embedded one; the warning is for applications.
    logs.set_up("error", "text")
    return embedded.acquire(Path.cwd())


def export(redis_url: str | None, namespace: str | None) -> None:
    """Set the variables that an application reads when it makes calls while it is imported."""
    if redis_url is not None:
        os.environ["QUIV_REDIS_URL"] = redis_url
    if namespace is not None:
        os.environ["QUIV_NAMESPACE"] = namespace
