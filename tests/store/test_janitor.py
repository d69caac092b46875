"""What the leader sweeps: purge and audit."""

from __future__ import annotations

import pytest

from quiv_dist.exceptions import LeadershipLostError
from tests.store.build import T0, claim, end, fire, lead, node, put, read, running, submitted
from tests.store.state import World

RETENTION_MS = 60_000


# purge ------------------------------------------------------------------------------------------


async def test_an_ended_job_is_forgotten_after_its_retention(world: World) -> None:
    job = await running(world)
    await world.partition.finish("W", [end(job)])
    await world.at(T0 + RETENTION_MS - 1)
    holder = await lead(world)
    assert await world.nothing(world.partition.purge(holder)) == 0
    await world.at(T0 + RETENTION_MS)
    done = await world.act(world.partition.purge(holder))

    assert done.result == 1
    assert done.touched() == {"job:job-1", "jobs", "ended"}
    assert all(new is None for _, new in done.changes.values())
    assert done.kinds == []
    assert await world.partition.read_jobs(["job-1"]) == [None]


async def test_live_jobs_and_dead_letters_stay(world: World) -> None:
    first = await running(world)
    await submitted(world, 2)
    await world.partition.finish("W", [end(first, "failed")])
    await world.after(100 * RETENTION_MS)
    holder = await lead(world)
    assert await world.nothing(world.partition.purge(holder)) == 0


async def test_old_events_leave_the_log(world: World) -> None:
    holder = await lead(world)
    await put(world)
    first_id = (await world.reads.log_after("0-0"))[-1].id
    for number in range(400):
        await submitted(world, number)
    await world.events()
    await world.after(600_000 + 1)
    await submitted(world, 1000)
    await world.partition.purge(holder)
    start = await world.reads.log_start()
    assert start is not None
    assert start > first_id
    kept = await world.reads.log_after("0-0")
    # Whole nodes of the stream go, so a few old ones may stay beside the new one.
    assert len(kept) < 100
    assert kept[-1].kind == "job_scheduled"


async def test_only_the_leader_purges(world: World) -> None:
    old = await lead(world)
    await world.after(6000)
    await lead(world, "M")
    with pytest.raises(LeadershipLostError):
        await world.nothing(world.partition.purge(old))


# audit ------------------------------------------------------------------------------------------


async def audited(world: World, holder: str) -> list[tuple[str, str]]:
    found = await world.partition.audit(holder, await world.reads.task_ids())
    assert await world.nothing(world.partition.audit(holder, await world.reads.task_ids())) == []
    return found


async def test_sound_tasks_are_left(world: World) -> None:
    holder = await lead(world)
    await node(world)
    for task_id, mode in (("A", "fixed"), ("B", "after"), ("C", "once"), ("D", "cron")):
        await put(world, task_id, mode=mode)
    await put(world, "P")
    await world.partition.pause_task("P", reason="", actor="", call="")
    await world.at(T0 + 1000)
    for next_ms in (T0 + 2000,):
        await fire(world, holder, next_ms=next_ms)
    jobs = await claim(world)
    retry = end(jobs[0], "failed", retry=("job-x", 5000))
    await world.partition.finish("W", [retry, end(jobs[1])])
    ids = await world.reads.task_ids()
    assert await world.nothing(world.partition.audit(holder, ids)) == []


async def test_a_task_with_neither_due_time_nor_live_run_is_armed(world: World) -> None:
    holder = await lead(world)
    await put(world)
    await world.command("HSET", world.keys.key("task:T"), "due", "")
    await world.command("ZREM", world.keys.key("due"), "t:T")
    assert await audited(world, holder) == [("T", "active with neither due time nor live run")]
    assert (await read(world)).due_ms == T0


async def test_a_lost_due_member_comes_back(world: World) -> None:
    holder = await lead(world)
    await put(world)
    await world.command("ZREM", world.keys.key("due"), "t:T")
    assert await audited(world, holder) == [("T", "due time missing from the due set")]
    assert (await world.dump())["due[t:T]"] == T0 + 1000


async def test_a_due_member_at_another_time_is_put_right(world: World) -> None:
    holder = await lead(world)
    await put(world)
    await world.command("ZADD", world.keys.key("due"), T0 + 5, "t:T")
    assert await audited(world, holder) == [("T", "in the due set at another time")]
    assert (await world.dump())["due[t:T]"] == T0 + 1000


async def test_a_paused_task_leaves_the_due_set(world: World) -> None:
    holder = await lead(world)
    await put(world)
    await world.partition.pause_task("T", reason="", actor="", call="")
    await world.command("ZADD", world.keys.key("due"), T0 + 5, "t:T")
    assert await audited(world, holder) == [("T", "paused and in the due set")]


async def test_a_live_run_without_a_job_is_dropped(world: World) -> None:
    holder = await lead(world)
    await put(world, mode="after")
    await world.command("HSET", world.keys.key("live:T"), "run-x", "job-x")
    assert await audited(world, holder) == [("T", "live run without a live job")]
    assert "live:T" not in await world.names()


async def test_an_index_entry_without_a_record_is_dropped(world: World) -> None:
    holder = await lead(world)
    await world.command("ZADD", world.keys.key("tasks"), 1, "ghost")
    assert await world.partition.audit(holder, ["ghost"]) == [("ghost", "indexed without a record")]
    assert await world.reads.task_ids() == []


async def test_only_the_leader_audits(world: World) -> None:
    await put(world)
    old = await lead(world)
    await world.after(6000)
    await lead(world, "M")
    with pytest.raises(LeadershipLostError):
        await world.nothing(world.partition.audit(old, ["T"]))
