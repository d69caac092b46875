"""The event feed over a healthy server: what is heard, in which order, how often."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from quiv_dist.config import Settings
from quiv_dist.events.cursor import parse_id
from quiv_dist.events.feed import EventFeed
from quiv_dist.exceptions import ConfigurationError, RedisUnavailableError
from quiv_dist.models import Event
from quiv_dist.store.namespace import Store
from tests.roles.feeds import LOGGER, QUICK, Heard, feeding, producing

if TYPE_CHECKING:
    from quiv_dist.core.wire import Envelope
    from tests.conftest import OwnServer

TASKS = (Event.TASK_ADDED, Event.TASK_PAUSED)


def assert_in_log_order(envelopes: list[Envelope]) -> None:
    ids = [parse_id(envelope.id) for envelope in envelopes]
    assert ids == sorted(set(ids))


async def test_events_after_cover_are_heard_and_earlier_ones_are_not(
    redis_url: str, namespace: str
) -> None:
    async with producing(redis_url, namespace) as producer:
        await producer.add_task("before")
        async with feeding(redis_url, namespace, *TASKS) as (feed, heard):
            await producer.add_task("after")
            await producer.pause_task("after")
            await heard.until(lambda: len(heard.envelopes) == 2)
            assert heard.names() == ["task_added after", "task_paused after"]
            assert feed.position == {0: heard.envelopes[-1].id}


async def test_events_stored_right_after_cover_returned_are_never_missed(
    redis_url: str, namespace: str
) -> None:
    async with producing(redis_url, namespace) as producer:
        for at in range(10):
            async with feeding(redis_url, namespace, Event.TASK_ADDED) as (_, heard):
                await producer.add_task(f"t{at}")
                await heard.task(f"t{at}")
                assert heard.tasks() == [f"t{at}"]


async def test_kinds_not_covered_are_not_heard(redis_url: str, namespace: str) -> None:
    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, Event.TASK_PAUSED) as (_, heard),
    ):
        await producer.add_task("t")
        await producer.pause_task("t")
        await heard.until(lambda: len(heard.envelopes) == 1)
        assert heard.kinds() == ["task_paused"]


async def test_a_kind_covered_later_begins_then(redis_url: str, namespace: str) -> None:
    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, Event.TASK_PAUSED) as (feed, heard),
    ):
        await producer.add_task("early")
        await producer.pause_task("early")
        await feed.cover([Event.TASK_ADDED])
        await producer.add_task("late")
        await heard.task("late")
        assert heard.names() == ["task_paused early", "task_added late"]


async def test_an_uncovered_kind_is_silent_and_begins_anew_when_covered_again(
    redis_url: str, namespace: str
) -> None:
    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, *TASKS) as (feed, heard),
    ):
        await feed.uncover([Event.TASK_ADDED])
        await producer.add_task("unheard")
        await producer.pause_task("unheard")
        await heard.until(lambda: bool(heard.envelopes))
        await feed.cover([Event.TASK_ADDED])
        await producer.add_task("heard")
        await heard.task("heard")
        assert heard.names() == ["task_paused unheard", "task_added heard"]


async def test_with_nothing_covered_no_connection_is_kept(own_server: OwnServer) -> None:
    server = own_server()
    async with (
        producing(server.url, "ns") as producer,
        feeding(server.url, "ns", Event.TASK_ADDED) as (feed, heard),
    ):
        await producer.add_task("one")
        await heard.task("one")
        channel = producer.store.keys().event_channel("task_added")
        assert await producer.command("PUBSUB", "NUMSUB", channel) == [channel.encode(), 1]
        await feed.uncover([Event.TASK_ADDED])
        async with asyncio.timeout(10):
            while await producer.command("PUBSUB", "NUMSUB", channel) != [channel.encode(), 0]:
                pass
        await feed.cover([Event.TASK_ADDED])
        await producer.add_task("two")
        await heard.task("two")
        assert heard.tasks() == ["one", "two"]


async def test_a_burst_is_heard_once_in_log_order(redis_url: str, namespace: str) -> None:
    kinds = (*TASKS, Event.JOB_SCHEDULED)
    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, *kinds) as (_, heard),
    ):
        runs: list[str] = []
        for at in range(20):
            runs += await producer.submit(150)
            await producer.add_task(f"t{at}")
            await producer.pause_task(f"t{at}")
        await heard.until(lambda: len(heard.envelopes) == 3_040)
        assert_in_log_order(heard.envelopes)
        assert [task for task in heard.tasks() if not task.startswith("t")] == runs


async def test_covering_and_uncovering_during_a_burst_loses_nothing_of_other_kinds(
    redis_url: str, namespace: str
) -> None:
    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, Event.JOB_SCHEDULED) as (feed, heard),
    ):
        submitting = asyncio.create_task(producer.submit(5_000))
        for _ in range(10):
            await feed.cover(TASKS)
            await feed.uncover(TASKS)
        runs = await submitting
        await heard.until(lambda: len(heard.envelopes) >= len(runs))
        assert heard.tasks() == runs


async def test_progress_is_heard_though_it_is_not_logged(redis_url: str, namespace: str) -> None:
    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, Event.JOB_PROGRESS) as (_, heard),
    ):
        await producer.run_with_progress(b'{"args":[42],"kwargs":{}}')
        await heard.until(lambda: bool(heard.envelopes))
        (envelope,) = heard.envelopes
        assert envelope.id == ""
        assert envelope.progress is not None
        assert envelope.progress.args == [42]


async def test_garbage_is_logged_once_and_skipped(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, Event.TASK_ADDED) as (_, heard),
    ):
        channel = producer.store.keys().event_channel("task_added")
        for garbage in (b"no JSON", b"\xff\xfe", b'{"id":"1"}', b"[]"):
            await producer.command("PUBLISH", channel, garbage)
        foreign = b'{"id":"","prev":"","type":"task_cloned","at_ms":1,"partition":0,"log":"x"}'
        await producer.command("PUBLISH", channel, foreign)
        await producer.add_task("t")
        await heard.task("t")
        assert heard.names() == ["task_added t"]
    warnings = [r for r in caplog.records if "skipped" in r.getMessage()]
    assert len(warnings) == 1
    assert "task_added" in warnings[0].getMessage()


async def test_a_logged_event_nobody_can_read_is_skipped_and_the_next_is_heard(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = (Event.JOB_SCHEDULED, Event.EVENTS_LOST)
    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, *kinds) as (_, heard),
    ):
        # As a newer version might write: the same field, another type.
        await producer.submit(1, snap=b'{"id":7,"task_name":"n"}')
        runs = await producer.submit(2)
        await heard.task(runs[-1])
        assert heard.tasks() == runs
        assert heard.gaps() == []
    assert sum("skipped" in record.getMessage() for record in caplog.records) == 1


async def test_an_own_event_is_not_heard_again_and_others_of_its_call_are(
    redis_url: str, namespace: str
) -> None:
    kinds = (Event.TASK_ADDED, Event.JOB_SCHEDULED)
    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, *kinds) as (feed, heard),
    ):
        with feed.call("mine") as echo:
            await producer.add_task("own", call="mine")
            runs = await producer.submit(1, call="mine")
            echo.heard(Event.TASK_ADDED)
        await producer.add_task("other", call="theirs")
        await heard.until(lambda: len(heard.envelopes) == 2)
        assert sorted(heard.tasks()) == sorted([*runs, "other"])


async def test_the_event_of_a_call_whose_reply_was_lost_is_heard(
    redis_url: str, namespace: str
) -> None:
    async def call() -> None:
        with feed.call("mine"):
            await producer.add_task("own", call="mine")
            raise ConnectionError("the reply was lost")

    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, Event.TASK_ADDED) as (feed, heard),
    ):
        with pytest.raises(ConnectionError):
            await call()
        await heard.task("own")
        await producer.add_task("next")
        await heard.task("next")
        assert heard.tasks() == ["own", "next"]


async def test_while_listeners_are_behind_nothing_more_is_delivered_and_later_all_is(
    redis_url: str, namespace: str
) -> None:
    heard, handled = Heard(), 0
    most = 200

    def backlog() -> int:
        return len(heard.envelopes) - handled

    async with (
        producing(redis_url, namespace) as producer,
        feeding(
            redis_url, namespace, Event.JOB_SCHEDULED,
            heard=heard, backlog=backlog, most_waiting=most,
        ) as (feed, _),
    ):  # fmt: skip
        runs = await producer.submit(6_000)
        await heard.until(lambda: backlog() >= most)
        # Covering works meanwhile, and what follows is kept in the log.
        await feed.cover([Event.TASK_ADDED])
        await producer.add_task("late")
        assert feed._subscription is None
        highest = 0
        while handled < len(runs) + 1:
            await heard.until(lambda: backlog() >= 1)
            highest = max(highest, backlog())
            handled = len(heard.envelopes)
        assert heard.tasks() == [*runs, "late"]
        assert_in_log_order(heard.envelopes)
        # The bound, and the page or batch that went beyond it.
        assert highest < most + 500


async def test_messages_that_find_no_room_are_read_from_the_log(
    redis_url: str, namespace: str
) -> None:
    async with (
        producing(redis_url, namespace) as producer,
        feeding(redis_url, namespace, Event.JOB_SCHEDULED, most_waiting=50) as (_, heard),
    ):
        # One script of 200 events comes as one chunk, four times what there is room for.
        runs = await producer.submit(2_000)
        await heard.until(lambda: len(heard.envelopes) >= len(runs))
        assert heard.tasks() == runs


async def test_a_server_that_refuses_us_is_named_by_cover_and_logged_once(
    own_server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = own_server(options={"requirepass": "right"})
    wrong = server.url.replace("redis://", "redis://:wrong@")
    heard = Heard()
    store = Store(wrong, "ns", QUICK)
    feed = EventFeed(store, LOGGER, heard.deliver)
    feed.start()
    for _ in range(3):
        with pytest.raises(ConfigurationError, match="refuses"):
            await feed.cover([Event.TASK_ADDED])
    await feed.stop()
    await store.close()
    assert len(caplog.records) == 1
    assert "wrong" not in caplog.text


async def test_stopping_ends_the_waits_for_a_subscription(own_server: OwnServer) -> None:
    server = own_server()
    store = Store(server.url, "ns", Settings())
    feed = EventFeed(store, LOGGER, Heard().deliver)
    server.stop()
    feed.start()
    covering = asyncio.create_task(feed.cover([Event.TASK_ADDED]))
    await asyncio.wait([covering], timeout=0.1)
    assert not covering.done()
    await feed.stop()
    with pytest.raises(RedisUnavailableError, match="stopped"):
        await covering
    await store.close()


async def test_the_feed_logs_nothing_while_all_is_well(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "Quiv")
    async with (
        producing(redis_url, namespace) as producer,
        feeding(
            redis_url, namespace, *TASKS, Event.EVENTS_LOST, settings=Settings(log_check_s=0.001)
        ) as (feed, heard),
    ):  # fmt: skip
        looked, subscription = feed._look_at_s, feed._subscription
        await producer.add_tasks("t", 50)
        await heard.task("t49")
        assert feed._look_at_s > looked
        assert feed._subscription is subscription
        assert len(heard.envelopes) == 50
    assert caplog.records == []
