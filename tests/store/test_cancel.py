from __future__ import annotations

from tests.store.build import T0, claim, end, fire, lead, node, put, running, submitted
from tests.store.state import World


async def test_a_queued_job_ends_at_once(world: World) -> None:
    await submitted(world, 1)
    done = await world.act(world.partition.cancel("job-1", call="c"))

    assert done.result is True
    assert done.changes["job:job-1.status"] == ("scheduled", "cancelled")
    assert done.changes["q:default:normal[e1]"] == ({"j": "job-1"}, None)
    assert done.touched() == {
        "job:job-1", "q:default:normal", "ended", "call:c:cancel:job-1",
    }  # fmt: skip
    (event,) = done.events
    assert (event.type, event.call) == ("job_cancelled", "c")


async def test_an_entry_that_was_delivered_and_not_claimed_is_acknowledged(world: World) -> None:
    await node(world)
    await submitted(world, 1)
    streams = [("default", "normal")]
    await world.reads.create_groups(streams)
    await world.reads.wait_for_entry("W", streams, 100)
    done = await world.act(world.partition.cancel("job-1", call=""))
    assert done.changes["q:default:normal[e1].pending"] == ("W", None)


async def test_a_job_that_waits_for_its_retry_ends_at_once(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    (job,) = await claim(world)
    await world.partition.finish("W", [end(job, "failed", retry=("job-2", 9000))])
    done = await world.act(world.partition.cancel("job-2", call=""))

    assert done.changes["due[r:job-2]"] == (T0 + 10_000, None)
    assert done.kinds == ["job_cancelled"]
    assert done.changes["task:T.attempt"] == ("1", "0")


async def test_a_parked_job_ends_at_once(world: World) -> None:
    await node(world, handlers=())
    await submitted(world, 1, 2)
    await claim(world)
    first = await world.act(world.partition.cancel("job-1", call=""))
    assert "parked" not in first.touched()
    last = await world.act(world.partition.cancel("job-2", call=""))
    assert last.changes["parked[default|app:tidy]"] == (T0, None)
    assert last.changes["parked:default|app:tidy[0]"] == ("job-2", None)


async def test_a_running_job_is_asked_to_stop(world: World) -> None:
    await running(world)
    done = await world.act(world.partition.cancel("job-1", call="c"))
    assert done.result is True
    assert done.kinds == []
    assert done.changes == {
        "job:job-1.stop": (None, "cancel"),
        "call:c:cancel:job-1": (None, "1"),
    }
    (row,) = await world.partition.read_jobs(["job-1"])
    assert row is not None
    assert row.wire.status == "running"


async def test_an_unknown_or_ended_job_is_left(world: World) -> None:
    job = await running(world)
    await world.partition.finish("W", [end(job)])
    for job_id in ("job-1", "job-9"):
        assert await world.nothing(world.partition.cancel(job_id, call="c")) is False


async def test_sent_again_it_says_what_it_said_first(world: World) -> None:
    await submitted(world, 1)
    assert await world.partition.cancel("job-1", call="c") is True
    assert await world.nothing(world.partition.cancel("job-1", call="c")) is True
