"""The event feed through lost connections, silent ones, trimmed logs and restarted servers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from quiv_dist.events.feed import EventFeed
from quiv_dist.exceptions import RedisUnavailableError
from quiv_dist.models import Event
from quiv_dist.store.namespace import Store
from tests.roles.feeds import LOGGER, NEVER_LOOKS, QUICK, Heard, feeding, producing, wired
from tests.servers import oldest_redis_binary

if TYPE_CHECKING:
    from tests.conftest import OwnServer

ADDED = (Event.TASK_ADDED, Event.EVENTS_LOST)
DURABLE = {"appendonly": "yes", "appendfsync": "always"}


async def test_a_killed_connection_costs_no_event(own_server: OwnServer) -> None:
    server = own_server()
    async with (
        producing(server.url, "ns") as producer,
        feeding(server.url, "ns", *ADDED) as (_, heard),
    ):
        names: list[str] = []
        for at in range(10):
            names += await producer.add_tasks(f"before{at}-", 3)
            assert await producer.command("CLIENT", "KILL", "TYPE", "pubsub") == 1
            names += await producer.add_tasks(f"after{at}-", 3)
            await heard.task(names[-1])
        assert heard.tasks() == names
        assert heard.gaps() == []


async def test_what_happened_during_an_outage_of_the_network_is_heard_after_it(
    redis_url: str, namespace: str
) -> None:
    async with (
        wired(redis_url) as wire,
        producing(redis_url, namespace) as producer,
        feeding(wire.url, namespace, *ADDED) as (_, heard),
    ):
        names = await producer.add_tasks("before", 3)
        await heard.task("before2")
        await wire.cut()
        # More than one page of the log, most of it of other kinds.
        names += await producer.add_tasks("during", 5)
        await producer.submit(1_200)
        names += await producer.add_tasks("still", 5)
        await wire.join()
        names += await producer.add_tasks("after", 3)
        await heard.task("after2")
        assert heard.tasks() == names
        assert heard.gaps() == []


async def test_a_subscription_that_died_silently_is_replaced(
    redis_url: str, namespace: str
) -> None:
    async with (
        wired(redis_url) as wire,
        producing(redis_url, namespace) as producer,
        feeding(wire.url, namespace, *ADDED) as (_, heard),
    ):
        await producer.add_task("before")
        await heard.task("before")
        wire.mute()
        await producer.add_task("unheard")
        await heard.task("unheard")
        assert wire.subscriptions == 2
        await producer.add_task("after")
        await heard.task("after")
        assert heard.tasks() == ["before", "unheard", "after"]
        assert heard.gaps() == []


async def test_a_connection_that_answers_and_brings_no_events_is_replaced(
    redis_url: str, namespace: str
) -> None:
    async with (
        wired(redis_url) as wire,
        producing(redis_url, namespace) as producer,
        feeding(wire.url, namespace, *ADDED) as (_, heard),
    ):
        wire.mute(holding=b"message")
        names = await producer.add_tasks("unheard", 3)
        await heard.task("unheard2")
        assert wire.subscriptions == 2
        assert heard.tasks() == names


async def test_an_event_that_follows_a_lost_message_brings_it_from_the_log(
    redis_url: str, namespace: str
) -> None:
    async with (
        wired(redis_url) as wire,
        producing(redis_url, namespace) as producer,
        feeding(wire.url, namespace, *ADDED, settings=NEVER_LOOKS) as (_, heard),
    ):
        wire.mute(holding=b"message")
        await producer.add_task("unheard")
        await wire.unmute_after_a_loss()
        await producer.add_task("next")
        await heard.task("next")
        assert heard.tasks() == ["unheard", "next"]
        assert wire.subscriptions == 1


async def test_a_silent_subscription_is_found_also_when_only_progress_is_covered(
    redis_url: str, namespace: str
) -> None:
    async with (
        wired(redis_url) as wire,
        producing(redis_url, namespace) as producer,
        feeding(wire.url, namespace, Event.JOB_PROGRESS) as (_, heard),
    ):
        wire.mute()
        async with asyncio.timeout(10):
            # Progress published meanwhile is lost, by design; so it is sent until one is heard.
            while not heard.envelopes:
                await producer.run_with_progress(b'{"args":[1],"kwargs":{}}')
        assert set(heard.kinds()) == {"job_progress"}


@pytest.mark.parametrize("oldest", [False, True], ids=["valkey", "redis-6.2"])
async def test_trimmed_events_are_reported_before_what_follows(
    own_server: OwnServer, *, oldest: bool
) -> None:
    server = own_server(binary=oldest_redis_binary() if oldest else None)
    async with (
        wired(server.url) as wire,
        producing(server.url, "ns") as producer,
        feeding(wire.url, "ns", *ADDED) as (_, heard),
    ):
        await producer.add_task("before")
        await heard.task("before")
        last_read = heard.envelopes[-1].id
        await wire.cut()
        await producer.add_tasks("lost", 7)
        kept = await producer.add_tasks("kept", 3)
        await producer.trim_log(keep=3)
        goes_on = await producer.store.reads().log_start()
        await wire.join()
        await heard.task("kept2")
        assert heard.kinds() == ["task_added", "events_lost", *["task_added"] * 3]
        assert heard.tasks() == ["before", *kept]
        assert heard.gaps() == [(last_read, goes_on)]


async def test_a_log_trimmed_to_nothing_is_reported(redis_url: str, namespace: str) -> None:
    async with (
        wired(redis_url) as wire,
        producing(redis_url, namespace) as producer,
        feeding(wire.url, namespace, *ADDED) as (_, heard),
    ):
        await producer.add_task("before")
        await heard.task("before")
        await wire.cut()
        await producer.add_tasks("lost", 3)
        await producer.trim_log(keep=0)
        await wire.join()
        await heard.until(lambda: bool(heard.gaps()))
        await producer.add_task("after")
        await heard.task("after")
        assert heard.names() == ["task_added before", "events_lost -", "task_added after"]
        assert heard.gaps()[0][1] is None


async def test_a_trim_that_took_nothing_covered_is_not_reported(
    redis_url: str, namespace: str
) -> None:
    async with (
        wired(redis_url) as wire,
        producing(redis_url, namespace) as producer,
        feeding(wire.url, namespace, *ADDED) as (_, heard),
    ):
        await producer.add_task("before")
        await heard.task("before")
        await wire.cut()
        await producer.submit(50)
        await producer.trim_log(keep=10)
        await producer.add_task("after")
        await wire.join()
        await heard.task("after")
        assert heard.names() == ["task_added before", "task_added after"]


async def test_a_restart_with_the_append_only_file_loses_and_doubles_nothing(
    own_server: OwnServer,
) -> None:
    server = own_server(options=DURABLE)
    async with (
        producing(server.url, "ns") as producer,
        feeding(server.url, "ns", *ADDED) as (_, heard),
    ):
        names: list[str] = []
        for kill in (False, True):
            names += await producer.add_tasks(f"before{kill}", 5)
            server.restart(kill=kill)
            names += await producer.add_tasks(f"after{kill}", 5)
            await heard.task(names[-1])
        assert heard.tasks() == names
        assert heard.gaps() == []


async def test_a_restart_that_lost_everything_is_reported_and_the_new_log_is_read_whole(
    own_server: OwnServer,
) -> None:
    server = own_server()
    async with (
        producing(server.url, "ns") as producer,
        feeding(server.url, "ns", *ADDED) as (_, heard),
    ):
        await producer.add_tasks("old", 3)
        await heard.task("old2")
        server.restart()
        await producer.add_tasks("new", 3)
        await heard.task("new2")
        assert heard.names() == [
            *(f"task_added old{at}" for at in range(3)),
            "events_lost -",
            *(f"task_added new{at}" for at in range(3)),
        ]
        first = next(e for e in heard.envelopes if e.task and e.task.id == "new0")
        assert heard.gaps() == [(None, first.id)]


async def test_an_event_of_another_log_shows_that_the_server_was_flushed(
    own_server: OwnServer,
) -> None:
    server = own_server()
    async with (
        producing(server.url, "ns") as producer,
        feeding(server.url, "ns", *ADDED, settings=NEVER_LOOKS) as (_, heard),
    ):
        await producer.add_task("old")
        await heard.task("old")
        await producer.command("FLUSHALL")
        await producer.add_tasks("new", 3)
        await heard.task("new2")
        assert heard.names() == [
            "task_added old", "events_lost -", *(f"task_added new{at}" for at in range(3))
        ]  # fmt: skip


async def test_a_flushed_server_is_noticed_though_nothing_covered_happens(
    own_server: OwnServer,
) -> None:
    server = own_server()
    async with (
        producing(server.url, "ns") as producer,
        feeding(server.url, "ns", *ADDED) as (_, heard),
    ):
        await producer.add_task("old")
        await heard.task("old")
        await producer.command("FLUSHALL")
        await producer.submit(1)
        await heard.until(lambda: bool(heard.gaps()))
        assert heard.names() == ["task_added old", "events_lost -"]
        assert heard.gaps() == [(None, None)]


async def test_a_server_that_comes_back_with_older_data_is_reported(
    own_server: OwnServer,
) -> None:
    server = own_server()
    async with (
        producing(server.url, "ns") as producer,
        feeding(server.url, "ns", *ADDED) as (_, heard),
    ):
        await producer.add_task("kept")
        await producer.command("SAVE")
        await producer.add_task("undone")
        await heard.task("undone")
        server.restart(kill=True)
        await heard.until(lambda: bool(heard.gaps()))
        await producer.add_task("new")
        await heard.task("new")
        assert heard.names() == [
            "task_added kept", "task_added undone", "events_lost -", "task_added new"
        ]  # fmt: skip


async def test_a_frozen_server_delays_events_and_loses_none(own_server: OwnServer) -> None:
    server = own_server()
    async with (
        producing(server.url, "ns") as producer,
        feeding(server.url, "ns", *ADDED) as (feed, heard),
    ):
        names = await producer.add_tasks("before", 3)
        server.pause()
        with pytest.raises(RedisUnavailableError, match="task_paused"):
            await feed.cover([Event.TASK_PAUSED])
        server.resume()
        names += await producer.add_tasks("after", 3)
        await heard.task("after2")
        assert heard.tasks() == names
        assert heard.gaps() == []
        # The kind stayed wanted.
        await feed.cover([Event.TASK_PAUSED])
        await producer.pause_task("after2")
        await heard.until(lambda: heard.kinds()[-1] == "task_paused")


async def test_kinds_covered_while_the_server_is_away_are_followed_when_it_is_back(
    own_server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = own_server(options=DURABLE)
    store, heard = Store(server.url, "ns", QUICK), Heard()
    await store.open()
    feed = EventFeed(store, LOGGER, heard.deliver)
    feed.start()
    server.stop()
    with pytest.raises(RedisUnavailableError, match="task_added in 2 s"):
        await feed.cover([Event.TASK_ADDED])
    server.start()
    await feed.cover([Event.TASK_ADDED])
    async with producing(server.url, "ns") as producer:
        await producer.add_task("t")
        await heard.task("t")
    await feed.stop()
    await store.close()
    said = [record.getMessage() for record in caplog.records if record.name == "Quiv"]
    assert len(said) == 2, said
    assert "retrying" in said[0]
    assert "answers again" in said[1]


async def test_echoes_are_dropped_also_when_they_come_from_the_log(
    redis_url: str, namespace: str
) -> None:
    async with (
        wired(redis_url) as wire,
        producing(redis_url, namespace) as producer,
        feeding(wire.url, namespace, *ADDED) as (feed, heard),
    ):
        await wire.cut()
        with feed.call("mine") as echo:
            await producer.add_task("own", call="mine")
            echo.heard(Event.TASK_ADDED)
        await producer.add_task("other")
        await wire.join()
        await heard.task("other")
        assert heard.tasks() == ["other"]


async def test_a_burst_through_broken_connections_is_heard_once_in_order(
    own_server: OwnServer,
) -> None:
    server = own_server()
    async with (
        producing(server.url, "ns") as producer,
        feeding(server.url, "ns", Event.JOB_SCHEDULED, Event.EVENTS_LOST) as (_, heard),
    ):
        submitting = asyncio.create_task(producer.submit(10_000))
        for mark in range(500, 5_000, 500):
            await heard.until(lambda mark=mark: len(heard.envelopes) >= mark)  # type: ignore[misc]
            await producer.command("CLIENT", "KILL", "TYPE", "pubsub")
        runs = await submitting
        await heard.until(lambda: len(heard.envelopes) >= len(runs))
        assert heard.tasks() == runs
