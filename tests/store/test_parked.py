"""Jobs whose handler nobody serves: claim parks them, settle_parked fails them."""

from __future__ import annotations

from typing import Any

import pytest

from quiv_dist.exceptions import LeadershipLostError
from tests.store.build import T0, claim, fire, lead, node, put, submitted
from tests.store.state import World

GRACE_MS = 60_000


async def parked(world: World, *numbers: int) -> str:
    await node(world, "W", handlers=("app:other",))
    await submitted(world, *(numbers or (1,)))
    assert await claim(world) == []
    return await lead(world)


async def keep_alive(world: World, holder: str) -> None:
    assert (await world.partition.renew_leader(holder, lease_ms=5000)).held


async def test_a_job_whose_handler_is_not_served_here_leaves_the_stream(world: World) -> None:
    await node(world, "W", handlers=("app:other",))
    await submitted(world, 1)
    done = await world.act(claim(world))

    assert done.result == []
    assert done.changes == {
        "job:job-1.entry": ("e1", ""),
        "job:job-1.parked": (None, "default|app:tidy"),
        "parked:default|app:tidy[0]": (None, "job-1"),
        "parked[default|app:tidy]": (None, T0),
        "q:default:normal[e1]": ({"j": "job-1"}, None),
        "q:default:high": (None, "stream"),
        "q:default:low": (None, "stream"),
    }
    assert done.kinds == []


async def test_jobs_that_are_not_served_hide_none_that_are(world: World) -> None:
    await node(world, "W", handlers=("app:other",))
    await submitted(world, 1, 2, 3)
    await submitted(world, 4, handler="app:other")
    assert [job.job_id for job in await claim(world, slots=2)] == ["job-4"]


async def test_a_node_that_comes_to_serve_it_takes_it(world: World) -> None:
    await parked(world, 1, 2)
    await node(world, "X")
    done = await world.act(claim(world, "X"))

    jobs = done.result
    assert [(job.job_id, job.delivery) for job in jobs] == [("job-1", 1), ("job-2", 1)]
    assert done.changes["parked[default|app:tidy]"] == (T0, None)
    assert done.changes["job:job-1.parked"] == ("default|app:tidy", None)
    ends = [(job.job_id, job.entry, job.delivery) for job in jobs]
    assert (await world.partition.renew("X", ends)).lost == []


async def test_a_job_taken_from_there_and_lost_goes_back_into_its_stream(world: World) -> None:
    holder = await parked(world)
    await node(world, "X")
    await claim(world, "X")
    await world.after(15_000)
    done = await world.act(world.partition.reclaim(holder, "X"))
    assert done.kinds == ["job_lost", "job_scheduled"]
    assert [job.delivery for job in await claim(world, "X")] == [2]


async def test_a_serving_node_is_woken(world: World) -> None:
    await node(world, "W", handlers=("app:other",))
    await node(world, "X")
    await submitted(world, 1)
    pubsub: Any = world.client.pubsub()
    await pubsub.subscribe(world.keys.node_channel("X"))
    await pubsub.get_message(timeout=None)
    await claim(world, "W")
    assert (await pubsub.get_message(timeout=None))["data"] == b"claim"
    holder = await lead(world)
    assert await world.partition.settle_parked(holder) == []
    assert (await pubsub.get_message(timeout=None))["data"] == b"claim"
    await pubsub.aclose()


async def test_nobody_serving_it_for_the_grace_fails_it(world: World) -> None:
    holder = await parked(world, 1, 2)
    await world.at(T0 + GRACE_MS - 1)
    assert await world.nothing(world.partition.settle_parked(holder)) == []
    await world.at(T0 + GRACE_MS)
    done = await world.act(world.partition.settle_parked(holder))

    assert done.result == ["job-1", "job-2"]
    assert done.kinds == ["job_failed", "job_dead"] * 2
    failed = done.events[0].job
    assert failed is not None
    assert failed.error_message == (
        "HandlerNotRegisteredError: no live worker of queue default serves handler app:tidy"
    )
    assert done.changes["parked[default|app:tidy]"] == (T0, None)


async def test_the_grace_does_not_run_while_the_fleet_restarts(world: World) -> None:
    holder = await parked(world)
    await world.at(T0 + GRACE_MS - 1)
    await node(world, "Y", handlers=("app:third",))
    await world.at(T0 + GRACE_MS)
    assert await world.nothing(world.partition.settle_parked(holder)) == []
    await world.at(T0 + 2 * GRACE_MS)
    assert await world.partition.settle_parked(holder) == ["job-1"]


async def test_the_grace_begins_when_the_last_that_served_it_has_gone(world: World) -> None:
    holder = await parked(world)
    await node(world, "X")
    await world.at(T0 + 14_000)
    assert await world.partition.settle_parked(holder) == []
    await world.at(T0 + 14_000 + GRACE_MS - 1)
    assert await world.nothing(world.partition.settle_parked(holder)) == []
    await world.at(T0 + 14_000 + GRACE_MS)
    assert await world.partition.settle_parked(holder) == ["job-1"]


async def test_a_failed_tick_frees_its_task(world: World) -> None:
    await node(world, "W", handlers=())
    await put(world, mode="after")
    holder = await lead(world)
    await world.at(T0 + 1000)
    await fire(world, holder, next_ms=None)
    await claim(world)
    await world.at(T0 + 1000 + GRACE_MS)
    done = await world.act(world.partition.settle_parked(holder))
    assert done.kinds == ["job_failed"]
    assert done.changes["due[t:T]"] == (None, T0 + 2000 + GRACE_MS)


async def test_only_the_leader_fails_parked_jobs(world: World) -> None:
    old = await parked(world)
    await world.after(2 * GRACE_MS)
    await lead(world, "M")
    with pytest.raises(LeadershipLostError):
        await world.nothing(world.partition.settle_parked(old))
