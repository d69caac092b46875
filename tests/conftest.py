"""Fixtures for every test: a server to share, a namespace of one's own, servers to break."""

from __future__ import annotations

import os
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
import redis

from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class OwnServer(Protocol):
    """Starts a private server, to be stopped after the test."""

    def __call__(
        self,
        *,
        options: Mapping[str, str | tuple[str, ...]] | None = None,
        binary: Path | None = None,
        unix_socket: bool = False,
    ) -> RedisServer: ...


@pytest.fixture(autouse=True)
def _unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's shell sets for quiv-dist must not reach the tests."""
    for name in os.environ:
        if name.startswith("QUIV_") and not name.startswith("QUIV_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server that tests share: QUIV_TEST_REDIS_URL, else a Valkey of this session's own.

    Tests on it keep to their `namespace`; those that restart, stop or configure a server use
    `own_server`.
    """
    given = os.environ.get("QUIV_TEST_REDIS_URL")
    if given:
        yield given
        return
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def namespace(redis_url: str) -> Iterator[str]:
    """A name that no other test uses; everything stored under it is deleted afterwards."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    with redis.Redis.from_url(redis_url) as client:
        keys = list(client.scan_iter(match=f"quiv:{{{name}/*", count=1000))
        for first in range(0, len(keys), 1000):
            client.unlink(*keys[first : first + 1000])


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    """A factory of private servers on free ports, for tests that restart, pause or kill them."""
    with ExitStack() as stack:
        # Not tmp_path: pytest's paths are too long for a Unix socket.
        parent = stack.enter_context(tempfile.TemporaryDirectory(prefix="quiv-server-"))

        def start(
            *,
            options: Mapping[str, str | tuple[str, ...]] | None = None,
            binary: Path | None = None,
            unix_socket: bool = False,
        ) -> RedisServer:
            server = RedisServer(
                Path(tempfile.mkdtemp(dir=parent)),
                options=options,
                binary=binary,
                unix_socket=unix_socket,
            )
            return stack.enter_context(server)

        yield start
