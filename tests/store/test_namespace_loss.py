"""A server that was flushed, or came back without its data, while a process goes on."""

from __future__ import annotations

import logging

import pytest

from quiv_dist.config import Settings
from quiv_dist.store.namespace import Store
from tests.conftest import OwnServer
from tests.store.build import submission


async def test_a_flushed_namespace_is_made_anew(
    own_server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(own_server().url, "lost", Settings())
    await store.open()
    first = store.incarnation
    assert await store.partition().submit([submission(1)], call="") == [True]
    await store._execute("FLUSHALL")
    with caplog.at_level(logging.WARNING, logger="Quiv"):
        assert await store.partition().submit([submission(1)], call="") == [True]

    assert store.incarnation not in {"", first}
    assert "namespace lost was lost by the server" in caplog.text
    reply = await store.partition().renew("N", [("job-1", "1-1", 1)])
    assert (reply.incarnation, reply.known, reply.lost) == (store.incarnation, False, ["job-1"])
    await store.close()


async def test_scripts_are_loaded_again(own_server: OwnServer) -> None:
    store = Store(own_server().url, "again", Settings())
    await store.open()
    await store.partition().submit([submission(1)], call="")
    await store._execute("SCRIPT", "FLUSH")
    assert await store.partition().submit([submission(1)], call="") == [False]
    await store.close()


async def test_two_processes_open_the_same_namespace(own_server: OwnServer) -> None:
    url = own_server().url
    stores = [Store(url, "shared", Settings()) for _ in range(2)]
    for store in stores:
        await store.open()
    assert stores[0].incarnation == stores[1].incarnation
    assert not any(store.virtual for store in stores)
    for store in stores:
        await store.close()
