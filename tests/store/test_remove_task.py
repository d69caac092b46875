from __future__ import annotations

from typing import Any

from quiv_dist.store.records import NOW
from tests.store.build import T0, claim, definition, due, end, fire, lead, node, put, read
from tests.store.state import World


async def test_a_removed_task_leaves_nothing(world: World) -> None:
    await put(world, pinned="N1")
    row = await read(world)
    before = await world.dump()
    done = await world.act(world.partition.remove_task("T", call="c"))

    assert (done.result.word, done.result.task) == ("OK", row.wire)
    gone = {name for name in before if name.startswith(("task:T", "tasks", "due", "pinned:"))}
    assert {name for name, (_, after) in done.changes.items() if after is None} == gone
    assert set(done.changes) == gone | {"call:c:remove:T"}
    (event,) = done.events
    assert (event.type, event.call, event.task) == ("task_removed", "c", row.wire)


async def test_a_queued_run_is_cancelled(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    done = await world.act(world.partition.remove_task("T", call="c"))

    assert done.kinds == ["task_removed", "job_cancelled"]
    job = done.events[1].job
    assert job is not None
    assert (job.status, job.error_message) == ("cancelled", "task removed")
    assert done.events[1].call == "c"
    assert done.changes["q:default:normal[e1]"] == ({"j": job.id}, None)
    assert done.changes[f"job:{job.id}.status"] == ("scheduled", "cancelled")
    assert done.changes[f"ended[{job.id}]"] == (None, T0 + 61_000)
    assert "live:T" in done.touched()


async def test_a_run_that_waits_for_its_retry_is_cancelled(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    (job,) = await claim(world)
    await world.partition.finish("W", [end(job, "failed", retry=("job-2", 5000))])
    done = await world.act(world.partition.remove_task("T", call=""))

    assert done.kinds == ["task_removed", "job_cancelled"]
    assert done.changes["due[r:job-2]"] == (T0 + 6000, None)
    assert done.changes["job:job-2.status"] == ("scheduled", "cancelled")


async def test_a_running_run_is_asked_to_stop(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    (job,) = await claim(world)
    pubsub: Any = world.client.pubsub()
    await pubsub.subscribe(world.keys.node_channel("W"))
    await pubsub.get_message(timeout=None)
    done = await world.act(world.partition.remove_task("T", call=""))

    assert done.kinds == ["task_removed"]
    assert done.changes[f"job:{job.job_id}.stop"] == (None, "cancel")
    message = await pubsub.get_message(timeout=None)
    assert message["data"] == f"stop {job.job_id} cancel".encode()
    await pubsub.aclose()

    ended = await world.act(world.partition.finish("W", [end(job)]))
    assert ended.result == ["OK"]
    assert ended.kinds == ["job_cancelled"]


async def test_a_task_added_again_is_another_incarnation(world: World) -> None:
    """Its ticks neither wait for the old one's run nor end with it."""
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    (old,) = await claim(world)
    await world.partition.remove_task("T", call="")
    await put(world, mode="after")
    await world.at(T0 + 2000)
    assert await fire(world, holder, next_ms=None) == ["OK"]
    (new,) = await claim(world)

    done = await world.act(world.partition.finish("W", [end(old)]))
    assert not done.touched() & {"task:T", "live:T", "due"}
    await world.partition.finish("W", [end(new)])
    assert (await read(world)).due_ms == T0 + 3000


async def test_an_unknown_task(world: World) -> None:
    reply = await world.nothing(world.partition.remove_task("T", call="c"))
    assert (reply.word, reply.task) == ("GONE", None)


async def test_sent_again_it_says_what_it_said_first(world: World) -> None:
    await put(world)
    first = await world.partition.remove_task("T", call="c")
    assert await world.nothing(world.partition.remove_task("T", call="c")) == first


async def test_sent_again_it_does_not_remove_what_was_added_since(world: World) -> None:
    await put(world)
    await world.partition.remove_task("T", call="c")
    await world.partition.put_task(
        "T", definition(), NOW, if_exists="error", read=None, incarnation="i2", call=""
    )
    await world.nothing(world.partition.remove_task("T", call="c"))
    assert [item.member for item in await due(world)] == ["t:T"]
