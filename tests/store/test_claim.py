from __future__ import annotations

import pytest

from quiv_dist.store.records import Delivered, UnregisteredError
from tests.store.build import NORMAL, T0, claim, end, node, submission, submitted
from tests.store.state import World


async def test_a_queued_job_starts(world: World) -> None:
    await node(world)
    await submitted(world, 1)
    await world.at(T0 + 40)
    done = await world.act(claim(world))

    (job,) = done.result
    assert (job.job_id, job.delivery, job.attempt, job.crashes) == ("job-1", 1, 1, 0)
    assert (job.run_id, job.run_kind, job.task_id) == ("run-1", "submit", "run-1")
    assert (job.handler, job.queue, job.priority) == ("app:tidy", "default", "normal")
    assert (job.created_ms, job.max_crashes) == (T0, 3)
    assert (job.spec, job.args, job.snap) == (b"spec", b"args", submission(1).snap)
    assert job.entry == world.entry_id("e1")
    assert done.changes == {
        "job:job-1.status": ("scheduled", "running"),
        "job:job-1.node": (None, "W"),
        "job:job-1.started": (None, str(T0 + 40)),
        "job:job-1.deliv": (None, "1"),
        "jobs[job-1]": (T0, T0 + 40),
        "leases:W[job-1]": (None, T0 + 40 + 15_000),
        "q:default:high": (None, "stream"),
        "q:default:low": (None, "stream"),
    }
    (event,) = done.events
    assert event.type == "job_started"
    assert event.job is not None
    assert (event.job.status, event.job.node_id, event.job.delivery) == ("running", "W", 1)
    assert (event.job.started_at_ms, event.job.created_at_ms) == (T0 + 40, T0)


async def test_what_was_queued_before_any_worker_came_is_not_lost(world: World) -> None:
    await submitted(world, 1)
    await node(world)
    assert [job.job_id for job in await claim(world)] == ["job-1"]


async def test_streams_are_read_in_order_of_priority_up_to_the_slots(world: World) -> None:
    await node(world)
    await submitted(world, 1, priority="low")
    await submitted(world, 2, 3, priority="normal")
    await submitted(world, 4, priority="high")
    assert [job.job_id for job in await claim(world, slots=3)] == ["job-4", "job-2", "job-3"]
    assert [job.job_id for job in await claim(world, slots=3)] == ["job-1"]
    assert await world.nothing(claim(world)) == []


async def test_without_slots_nothing_is_read(world: World) -> None:
    await node(world)
    await submitted(world, 1)
    assert await world.nothing(claim(world, slots=0)) == []


async def test_a_node_that_is_not_registered_gets_nothing(world: World) -> None:
    """Nobody watches the leases of such a node: what it took would be lost with it."""
    await submitted(world, 1)
    before = await world.dump()
    with pytest.raises(UnregisteredError):
        await claim(world)
    assert await world.dump() == before


async def test_a_lost_reply_leaves_the_job_to_its_lease(world: World) -> None:
    await node(world)
    await submitted(world, 1)
    (lost,) = await claim(world)
    assert await world.nothing(claim(world)) == []
    again = [Delivered("default", "normal", lost.entry)]
    claimed = world.partition.claim("W", slots=1, streams=NORMAL, delivered=again)
    assert (await world.nothing(claimed))[1] == []


# What a blocking read brought -------------------------------------------------------------------


async def wait(world: World, streams: list[tuple[str, str]] = NORMAL) -> list[Delivered]:
    await world.reads.create_groups(streams)
    return await world.reads.wait_for_entry("W", streams, 100)


async def test_what_a_blocking_read_brought_is_started(world: World) -> None:
    await node(world)
    await submitted(world, 1)
    delivered = await wait(world)
    assert (await world.dump())["q:default:normal[e1].pending"] == "W"
    done = await world.act(world.partition.claim("W", slots=1, streams=NORMAL, delivered=delivered))
    assert [job.job_id for job in done.result[1]] == ["job-1"]
    assert done.changes["q:default:normal[e1].pending"] == ("W", None)


async def test_what_it_brought_beyond_the_slots_goes_back(world: World) -> None:
    await node(world)
    await submitted(world, 1, priority="high")
    await submitted(world, 2, priority="low")
    delivered = await wait(world)
    assert len(delivered) == 2
    done = await world.act(world.partition.claim("W", slots=1, streams=NORMAL, delivered=delivered))
    assert [job.job_id for job in done.result[1]] == ["job-1"]
    assert done.kinds == ["job_started"]
    assert [job.job_id for job in await claim(world)] == ["job-2"]


async def test_an_entry_that_has_gone_meanwhile_is_forgotten(world: World) -> None:
    await node(world)
    await submitted(world, 1)
    delivered = await wait(world)
    await world.partition.cancel("job-1", call="")
    await world.partition.claim("W", slots=1, streams=NORMAL, delivered=delivered)
    assert not [name for name in await world.dump() if name.endswith(".pending")]


async def test_one_entry_wakes_one_of_two_waiting_workers(world: World) -> None:
    await submitted(world, 1)
    await world.reads.create_groups(NORMAL)
    first = await world.reads.wait_for_entry("W", NORMAL, 100)
    second = await world.reads.wait_for_entry("X", NORMAL, 1)
    assert (len(first), second) == (1, [])
    await node(world, "W")
    await world.partition.claim("W", slots=1, streams=NORMAL, delivered=first)


# Entries that nobody can read -------------------------------------------------------------------

GARBAGE: dict[str, list[bytes]] = {
    "another field": [b"k", b"job-1"],
    "two fields": [b"j", b"job-1", b"x", b"y"],
    "no such job": [b"j", b"job-9"],
    "an empty id": [b"j", b""],
    "bytes": [b"j", bytes(range(256))],
    "a long id": [b"j", b"x" * 65],
    "quotes and braces": [b'"}{', b"\x00'\\"],
}


@pytest.mark.parametrize("fields", GARBAGE.values(), ids=GARBAGE)
async def test_an_entry_nobody_can_read_is_kept_and_blocks_nobody(
    world: World, fields: list[bytes]
) -> None:
    await node(world)
    await submitted(world, 1)
    stream = world.keys.stream("default", "normal")
    entry = await world.command("XADD", stream, "*", *fields)
    await submitted(world, 2)
    done = await world.act(claim(world))

    assert [job.job_id for job in done.result] == ["job-1", "job-2"]
    assert done.kinds == ["job_started", "job_started"]
    (kept,) = await world.reads.malformed()
    assert (kept.stream, kept.entry) == ("q:default:normal", entry.decode())
    assert kept.fields == fields
    assert kept.at_ms == T0
    assert await claim(world) == []
    assert len(await world.reads.malformed()) == 1


async def test_what_is_kept_of_a_huge_entry_is_bounded(world: World) -> None:
    await node(world)
    stream = world.keys.stream("default", "normal")
    await world.command("XADD", stream, "*", "a", b"x" * 10_000, "b", b"y" * 10**6)
    await claim(world)
    (kept,) = await world.reads.malformed()
    assert kept.fields == [b"a", b"x" * 10_000, b"b", b"y" * (16_384 - 10_002)]


async def test_what_is_kept_is_capped(world: World) -> None:
    await node(world)
    stream = world.keys.stream("default", "normal")
    for _ in range(1050):
        await world.command("XADD", stream, "*", "a", "b")
    while await world.command("XLEN", stream):
        await claim(world, slots=200)
    assert len(await world.reads.malformed()) == 1000


async def test_garbage_that_a_blocking_read_brought_is_kept(world: World) -> None:
    await node(world)
    stream = world.keys.stream("default", "normal")
    await world.command("XADD", stream, "*", "a", "b")
    delivered = await wait(world)
    await world.partition.claim("W", slots=1, streams=NORMAL, delivered=delivered)
    assert len(await world.reads.malformed()) == 1


async def test_an_entry_that_is_not_the_jobs_current_one_starts_nothing(world: World) -> None:
    await node(world)
    await submitted(world, 1)
    stream = world.keys.stream("default", "normal")
    await world.command("XADD", stream, "*", "j", "job-1")
    (job,) = await claim(world)
    assert job.delivery == 1
    assert await world.reads.malformed() == []
    await world.partition.finish("W", [end(job)])


async def test_a_stream_of_another_type_blocks_no_other(world: World) -> None:
    await node(world)
    await submitted(world, 1)
    await world.command("SET", world.keys.stream("default", "high"), "x")
    assert [job.job_id for job in await claim(world)] == ["job-1"]
    await world.command("DEL", world.keys.stream("default", "high"))
