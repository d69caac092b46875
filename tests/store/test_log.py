"""The event log: its order, its ids, its bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from quiv_dist.config import Settings
from quiv_dist.store.namespace import Store
from tests.store.build import T0, put, submission, submitted
from tests.store.state import World


async def test_ids_follow_the_namespaces_clock(world: World) -> None:
    await put(world)
    await put(world, "U")
    await world.at(T0 + 5)
    await put(world, "V")
    ids = [entry.id for entry in await world.reads.log_after("0-0")]
    assert ids == [f"{T0}-1", f"{T0}-2", f"{T0 + 5}-1"]
    assert await world.reads.log_end() == f"{T0 + 5}-1"
    assert await world.reads.log_start() == f"{T0}-1"


async def test_ids_never_go_back_with_the_clock(world: World) -> None:
    await put(world)
    await world.at(T0 - 3_600_000)
    await put(world, "U", first_ms=T0)
    (_, second) = await world.reads.log_after("0-0")
    assert second.id == f"{T0}-2"
    await world.at(T0 + 1)


async def test_each_event_names_the_one_of_its_kind_before_it(world: World) -> None:
    await submitted(world, 1)
    await put(world)
    await submitted(world, 2)
    first, task, second = await world.reads.log_after("0-0")
    assert (first.prev, task.prev, second.prev) == ("", "", first.id)


async def test_a_page_begins_after_the_given_id_and_ends_at_the_given_one(world: World) -> None:
    await submitted(world, 1, 2, 3, 4)
    ids = [entry.id for entry in await world.reads.log_after("0-0")]
    page = await world.reads.log_after(ids[0], ids[2])
    assert [entry.id for entry in page] == ids[1:3]


BOUND_BYTES = 256 * 1024


@pytest.fixture
async def bounded(redis_url: str, namespace: str) -> AsyncIterator[World]:
    settings = Settings(log_bytes=BOUND_BYTES, history_retention_ms=1000, pending_idle_ms=0)
    async with Redis.from_url(redis_url, protocol=2) as client:
        world = World(Store(redis_url, namespace, settings, virtual_ms=T0), client, namespace, T0)
        await world.store.open()
        yield world
        await world.store.close()


async def size_bytes(world: World) -> int:
    """What the log takes on the server, all of it."""
    key = world.keys.key("log")
    return int(await world.command("MEMORY", "USAGE", key, "SAMPLES", 0))


async def test_the_log_stays_within_its_bytes_whatever_the_events_size(bounded: World) -> None:
    """Large events followed by small ones would burst a bound by number and mean size."""
    most = 0
    for round_, padding in enumerate([3000, 3000, 0, 0, 0, 0, 8000, 0, 300, 300]):
        snap = b'{"id":"x","task_name":"%b","status":"running","next_run_at_ms":1}'
        items = [submission(round_ * 200 + n, snap=snap % (b"x" * padding)) for n in range(200)]
        for first in range(0, 200, 5):
            await bounded.partition.submit(items[first : first + 5], call="")
            most = max(most, await size_bytes(bounded))
    assert most <= BOUND_BYTES * 1.5
    assert await size_bytes(bounded) >= BOUND_BYTES / 4


async def test_what_is_left_is_the_newest_without_a_hole(bounded: World) -> None:
    for number in range(0, 2000, 100):
        items = [submission(number + n) for n in range(100)]
        await bounded.partition.submit(items, call="")
    left = []
    last = "0-0"
    while page := await bounded.reads.log_after(last):
        left += page
        last = page[-1].id
    assert b'"id":"job-1999"' in left[-1].data
    assert all(left[i].prev == left[i - 1].id for i in range(1, len(left)))
    assert left[0].prev != ""
