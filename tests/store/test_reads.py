from __future__ import annotations

from quiv_dist.store.records import Fire
from tests.store.build import T0, claim, due, end, fire, lead, node, put, read, running, submitted
from tests.store.state import World


async def test_a_task_is_read_with_all_that_its_next_tick_needs(world: World) -> None:
    await put(world)
    row = await read(world)
    assert (row.revision, row.due_ms, row.nominal_ms, row.last_ms) == (
        "1@inc-T", T0 + 1000, T0 + 1000, 0,
    )  # fmt: skip
    assert (row.anchor_ms, row.trigger, row.args, row.spec) == (
        T0 + 1000, b"every second", b"args", b"spec",
    )  # fmt: skip
    assert (row.wire.id, row.wire.status, row.wire.next_run_at_ms) == ("T", "active", T0 + 1000)
    assert await world.partition.read_tasks(["x", "T", "y"]) == [None, row, None]


async def test_task_ids_come_oldest_first(world: World) -> None:
    for task_id in ("B", "A", "C"):
        await world.after(1)
        await put(world, task_id)
    assert await world.reads.task_ids() == ["B", "A", "C"]


async def test_a_status_is_running_while_a_job_is_queued_or_runs(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    assert (await read(world)).wire.status == "running"
    (job,) = await claim(world)
    assert (await read(world)).wire.status == "running"
    await world.partition.finish("W", [end(job)])
    assert (await read(world)).wire.status == "active"


async def test_jobs_are_read_by_start_time(world: World) -> None:
    for number in (1, 2, 3):
        await submitted(world, number)
        await world.after(10)
    ids = world.reads.job_ids
    assert await ids(newest_first=False) == ["job-1", "job-2", "job-3"]
    assert await ids(newest_first=True) == ["job-3", "job-2", "job-1"]
    assert await ids(newest_first=False, since_ms=T0 + 10) == ["job-2", "job-3"]
    assert await ids(newest_first=True, until_ms=T0 + 10) == ["job-2", "job-1"]
    assert await world.reads.job_count() == 3


async def test_an_unknown_job_reads_as_none(world: World) -> None:
    await running(world)
    rows = await world.partition.read_jobs(["x", "job-1"])
    assert rows[0] is None
    assert rows[1] is not None
    assert rows[1].wire.status == "running"


async def test_the_look_ahead_comes_soonest_first_within_its_bounds(world: World) -> None:
    await put(world, "A", first_ms=T0 + 3000)
    await put(world, "B", first_ms=T0 + 1000)
    await put(world, "C", first_ms=T0 + 2000)
    peek = world.partition.peek_due
    now_ms, found = await peek(ahead_ms=2000, most=10)
    assert now_ms == T0
    assert [item.member for item in found] == ["t:B", "t:C"]
    assert [item.member for item in (await peek(ahead_ms=9000, most=1))[1]] == ["t:B"]
    assert found[0].trigger == b"every second"
    assert (found[0].revision, found[0].incarnation) == ("1@inc-B", "inc-B")
    assert await world.reads.next_due_ms() == T0 + 1000


async def test_nothing_due_reads_as_none(world: World) -> None:
    assert await world.reads.next_due_ms() is None
    assert await due(world) == []
    assert await world.reads.leader() == ("", 0)
    assert await world.reads.log_end() == "0-0"
    assert await world.reads.log_start() is None


async def test_a_member_of_a_record_that_is_gone_is_swept_by_its_firing(world: World) -> None:
    holder = await lead(world)
    await world.command("ZADD", world.keys.key("due"), T0, "t:ghost")
    assert await world.partition.fire(holder, [Fire("t:ghost", T0)]) == ["GONE"]
    assert await due(world) == []


async def test_the_leader_and_queues_are_read(world: World) -> None:
    holder = await lead(world)
    await node(world)
    assert await world.reads.leader() == (holder, T0 + 5000)
    assert await world.reads.queues() == ["default"]
