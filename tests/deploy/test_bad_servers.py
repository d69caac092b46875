"""A server that cannot be used: the error says which, why, and what is accepted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from quiv_dist import Quiv
from quiv_dist.exceptions import ConfigurationError, QuivError, RedisUnavailableError
from quiv_dist.store.namespace import Store
from tests.conftest import OwnServer
from tests.deploy.jobs import double
from tests.servers import free_port, oldest_redis_binary

PASSWORD = "correct-horse"
SOON_S = 0.4


async def by_opening(url: str, timeout_s: float = SOON_S) -> QuivError:
    """The error of a store on this URL, none of which shows a password."""

    async def act() -> None:
        store = Store(url)
        try:
            await store.open(timeout_s=timeout_s)
        finally:
            await store.close()

    with pytest.raises(QuivError) as caught:
        await act()
    return without_password(caught.value)


def by_calling(url: str) -> QuivError:
    """The error of an application's call."""

    def act() -> None:
        quiv = Quiv(redis_url=url, roles={"listener"})
        try:
            quiv.add_task("task", double, args=(1,), interval=60)
        finally:
            quiv.shutdown(0)

    with pytest.raises(QuivError) as caught:
        act()
    return without_password(caught.value)


def without_password(error: QuivError) -> QuivError:
    shown: BaseException | None = error
    while shown is not None:
        assert PASSWORD not in str(shown)
        shown = shown.__cause__ or shown.__context__
    return error


def with_user(url: str, user: str = "someone") -> str:
    return url.replace("://", f"://{user}:{PASSWORD}@")


# URLs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:6379",
        "localhost:6379",
        "",
        "redis:/localhost",
        f"redis://someone:{PASSWORD}@localhost:port/0",
        f"redis://someone:{PASSWORD}@localhost:99999/0",
        f"redis://someone:{PASSWORD}@localhost:6379/zero",
        f"redis://someone:{PASSWORD}@[::1/0",
        f"redis://someone:{PASSWORD}/more@localhost:6379/0",
        f"redis://localhost:6379/0?db=zero&password={PASSWORD}",
    ],
)
async def test_a_url_that_is_none_is_refused_with_what_is_accepted(url: str) -> None:
    for error in (await by_opening(url), by_calling(url)):
        assert isinstance(error, ConfigurationError)
        assert "redis_url=" in str(error)
        assert "redis://" in str(error)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_nobody_listens_there(scheme: str) -> None:
    port = free_port()
    error = await by_opening(f"{scheme}://someone:{PASSWORD}@127.0.0.1:{port}/0")
    assert isinstance(error, RedisUnavailableError)
    assert f"{scheme}://someone:***@127.0.0.1:{port}/0" in str(error)
    assert f"{SOON_S:g} s" in str(error)


async def test_a_host_that_does_not_exist() -> None:
    error = await by_opening(f"redis://someone:{PASSWORD}@no-such-host.invalid:6379/0")
    assert isinstance(error, RedisUnavailableError)
    assert "no-such-host.invalid" in str(error)


async def test_a_socket_that_does_not_exist() -> None:
    error = await by_opening("unix:///nowhere/valkey.sock")
    assert isinstance(error, RedisUnavailableError)
    assert "unix:///nowhere/valkey.sock" in str(error)


@contextmanager
def talking(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does one thing with each connection; its URL."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                stack.callback(connection.close)
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        # Wakes the accept as well, which a close alone does not.
        stack.callback(thread.join, 5)
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        yield f"redis://someone:{PASSWORD}@127.0.0.1:{listener.getsockname()[1]}/0"


async def test_something_else_answers_there() -> None:
    with talking(lambda it: it.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as url:
        error = await by_opening(url)
    assert isinstance(error, ConfigurationError)
    assert "someone:***@127.0.0.1" in str(error)
    assert "does not speak the Redis protocol" in str(error)


async def test_nothing_ever_answers_there() -> None:
    with talking(lambda _: None) as url:
        error = await by_opening(url)
    assert isinstance(error, RedisUnavailableError)
    assert "gave no answer" in str(error)


# Servers that refuse -----------------------------------------------------------------------------


async def refused(url: str, *named: str) -> None:
    """Both ways in refuse at once, and name these."""
    for error in (await by_opening(url, timeout_s=5), by_calling(url)):
        assert type(error) is ConfigurationError
        for text in named:
            assert text in str(error)


async def test_a_wrong_password(own_server: OwnServer) -> None:
    server = own_server(options={"requirepass": "another"})
    await refused(with_user(server.url, "default"), "default:***@127.0.0.1", "refuses this user")
    await refused(server.url.replace("//", f"//:{PASSWORD}@"), "refuses this user")


async def test_no_password_where_one_is_needed(own_server: OwnServer) -> None:
    server = own_server(options={"requirepass": PASSWORD})
    await refused(server.url, server.url, "refuses this user", "uthentication")


async def test_a_password_where_none_is_set(own_server: OwnServer) -> None:
    await refused(with_user(own_server().url), "refuses this user")


async def test_a_database_that_the_server_does_not_have(own_server: OwnServer) -> None:
    url = own_server(options={"databases": "2"}).url.removesuffix("0")
    store = Store(f"{url}1")
    await store.open()
    await store.close()
    await refused(f"{url}2", f"{url}2", "database")


async def test_a_replica_that_cannot_be_written(own_server: OwnServer) -> None:
    primary = own_server()
    replica = own_server(options={"replicaof": ("127.0.0.1", str(primary.port))})
    await refused(replica.url, replica.url, "read-only replica", "primary")


@pytest.mark.parametrize("command", ["XADD", "XREADGROUP", "EVALSHA", "EVAL", "INFO", "SUBSCRIBE"])
async def test_a_server_without_a_command(own_server: OwnServer, command: str) -> None:
    """As one from before streams, or one whose administrator renamed it."""
    server = own_server(options={"rename-command": (command, "")}, binary=oldest_redis_binary())
    # Every application needs all of these but the workers' own.
    roles = {"worker"} if command == "XREADGROUP" else {"listener"}
    quiv = Quiv(redis_url=server.url, roles=roles)
    with pytest.raises(ConfigurationError) as caught:
        quiv.start()
    quiv.shutdown(0)
    assert server.url in str(caught.value)
    assert f"lacks {command.lower()}" in str(caught.value)
    assert "Redis 6.2 or later, or Valkey, is needed" in str(caught.value)


async def test_a_version_that_is_too_old_is_named() -> None:
    """No such server is at hand: this one says PONG to all, and that it is 5.0."""
    info = b"# Server\r\nredis_version:5.0.14\r\nrole:master\r\n"

    def answer(connection: socket.socket) -> None:
        replies = {b"INFO": b"$%d\r\n%b\r\n" % (len(info), info)}
        while data := connection.recv(4096):
            for command in data.upper().split(b"*")[1:]:
                name = command.split(b"\r\n")[2]
                connection.sendall(replies.get(name, b"+OK\r\n"))

    with talking(answer) as url:
        error = await by_opening(url)
    assert isinstance(error, ConfigurationError)
    assert "is version 5.0.14; 6.2 or later is needed" in str(error)
    assert "someone:***@127.0.0.1" in str(error)
