from __future__ import annotations

from typing import Any

import msgspec

from tests.store.build import T0, claim, end, lead, node, running, submitted
from tests.store.state import World


async def test_node_and_job_leases_are_extended(world: World) -> None:
    job = await running(world)
    await world.at(T0 + 5000)
    done = await world.act(world.partition.renew("W", [(job.job_id, job.entry, job.delivery)]))

    reply = done.result
    assert (reply.server_ms, reply.known, reply.lost, reply.stops) == (T0 + 5000, True, [], {})
    assert reply.incarnation == world.store.incarnation
    assert done.changes == {
        "leases:W[job-1]": (T0 + 15_000, T0 + 20_000),
        "nodes[W]": (T0 + 15_000, T0 + 20_000),
        "node:W.renewed": (str(T0), str(T0 + 5000)),
    }
    assert done.kinds == []


async def test_a_delivery_that_is_not_current_is_lost(world: World) -> None:
    job = await running(world)
    await node(world, "X")
    wrong = [("job-9", job.entry, 1), ("job-1", "1-1", 1), ("job-1", job.entry, 2)]
    done = await world.act(world.partition.renew("W", wrong))
    assert done.result.lost == ["job-9", "job-1", "job-1"]
    assert "leases:W" not in done.touched()
    reply = await world.partition.renew("X", [("job-1", job.entry, 1)])
    assert reply.lost == ["job-1"]


async def test_a_job_that_ended_or_was_taken_back_is_lost(world: World) -> None:
    job = await running(world)
    holder = await lead(world)
    await world.after(15_000)
    await world.partition.reclaim(holder, "W")
    lease = (job.job_id, job.entry, job.delivery)
    assert (await world.partition.renew("W", [lease])).lost == ["job-1"]
    (again,) = await claim(world)
    assert (await world.partition.renew("W", [lease])).lost == ["job-1"]
    await world.partition.finish("W", [end(again)])
    lease = (again.job_id, again.entry, again.delivery)
    done = await world.act(world.partition.renew("W", [lease]))
    assert done.result.lost == ["job-1"]
    assert "leases:W" not in done.touched()


async def test_stored_stops_are_told(world: World) -> None:
    job = await running(world)
    await world.partition.cancel("job-1", call="")
    reply = await world.partition.renew("W", [(job.job_id, job.entry, job.delivery)])
    assert reply.stops == {"job-1": "cancel"}


async def test_an_unknown_node_is_told_so(world: World) -> None:
    assert (await world.nothing(world.partition.renew("W", []))).known is False


async def test_progress_is_published_and_kept(world: World) -> None:
    job = await running(world)
    pubsub: Any = world.client.pubsub()
    await pubsub.subscribe(world.keys.event_channel("job_progress"))
    await pubsub.get_message(timeout=None)
    body = msgspec.json.encode({"args": [1, 2], "kwargs": {"note": "half"}})
    done = await world.act(world.partition.progress("W", job.job_id, job.delivery, body))

    assert done.result is True
    assert done.changes == {"job:job-1.progress": (None, body.decode())}
    assert done.kinds == []  # not logged
    message = msgspec.json.decode((await pubsub.get_message(timeout=None))["data"])
    assert message["progress"] == {"args": [1, 2], "kwargs": {"note": "half"}}
    assert message["job"]["id"] == "job-1"
    await pubsub.aclose()


async def test_progress_of_another_delivery_is_refused(world: World) -> None:
    await running(world)
    await submitted(world, 2)
    for node_id, job_id, delivery in (
        ("X", "job-1", 1), ("W", "job-1", 2), ("W", "job-2", 0), ("W", "job-9", 1),
    ):  # fmt: skip
        refused = world.partition.progress(node_id, job_id, delivery, b"{}")
        assert await world.nothing(refused) is False
