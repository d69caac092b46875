from __future__ import annotations

import pytest

from quiv_dist.exceptions import LeadershipLostError
from tests.store.build import T0, claim, end, fire, lead, node, put, running
from tests.store.state import World


async def test_a_job_whose_lease_is_over_is_delivered_again(world: World) -> None:
    await running(world)
    await world.at(T0 + 15_000)
    holder = await lead(world)
    done = await world.act(world.partition.reclaim(holder, "W"))

    assert done.result == ["job-1"]
    assert done.changes == {
        "job:job-1.status": ("running", "scheduled"),
        "job:job-1.node": ("W", ""),
        "job:job-1.entry": ("e1", "e2"),
        "job:job-1.crashes": (None, "1"),
        "leases:W[job-1]": (T0 + 15_000, None),
        "q:default:normal[e1]": ({"j": "job-1"}, None),
        "q:default:normal[e2]": (None, {"j": "job-1"}),
    }
    assert done.kinds == ["job_lost", "job_scheduled"]
    lost = done.events[0].job
    assert lost is not None
    assert (lost.node_id, lost.crashes, lost.delivery) == ("W", 1, 1)
    assert await world.nothing(world.partition.reclaim(holder, "W")) == []
    await node(world, "X")
    (again,) = await claim(world, "X")
    assert (again.job_id, again.delivery, again.crashes) == ("job-1", 2, 1)


async def test_a_lease_that_runs_is_respected(world: World) -> None:
    await running(world)
    await world.at(T0 + 14_999)
    holder = await lead(world)
    assert await world.nothing(world.partition.reclaim(holder, "W")) == []


async def test_a_renewed_job_is_never_reclaimed(world: World) -> None:
    job = await running(world)
    holder = await lead(world)
    for _ in range(10):
        await world.after(14_000)
        assert await world.partition.reclaim(holder, "W") == []
        await world.partition.renew("W", [(job.job_id, job.entry, job.delivery)])


async def test_a_node_whose_presence_is_gone_loses_its_jobs_at_once(world: World) -> None:
    await running(world)
    holder = await lead(world)
    _, (row,) = await world.partition.survey_nodes()
    await world.after(3000)
    assert await world.partition.reclaim(holder, "W", renewed=row.renewed) == ["job-1"]


async def test_a_node_that_renewed_since_it_was_judged_keeps_its_jobs(world: World) -> None:
    job = await running(world)
    holder = await lead(world)
    _, (row,) = await world.partition.survey_nodes()
    await world.after(3000)
    await world.partition.renew("W", [(job.job_id, job.entry, job.delivery)])
    assert await world.nothing(world.partition.reclaim(holder, "W", renewed=row.renewed)) == []


async def test_a_stored_cancel_is_honoured_first(world: World) -> None:
    await running(world)
    await world.partition.cancel("job-1", call="")
    await world.after(15_000)
    holder = await lead(world)
    done = await world.act(world.partition.reclaim(holder, "W"))
    assert done.kinds == ["job_cancelled"]
    assert done.result == ["job-1"]


async def test_a_job_that_kills_its_worker_too_often_is_dead_lettered(world: World) -> None:
    await running(world)
    holder = await lead(world)
    kinds: list[list[str]] = []
    for _ in range(3):
        await world.after(15_000)
        kinds.append((await world.act(world.partition.reclaim(holder, "W"))).kinds)
        await claim(world)
    lost = ["job_lost", "job_scheduled"]
    assert kinds == [lost, lost, ["job_lost", "job_failed", "job_dead"]]
    (row,) = await world.partition.read_jobs(["job-1"])
    assert row is not None
    assert row.wire.error_message == "worker died 3 times while running this job (max_crashes 3)"
    assert (row.wire.dead, row.wire.crashes, row.wire.delivery) == (True, 3, 3)


async def test_one_start_at_most_where_that_is_asked(world: World) -> None:
    await running(world, max_crashes=1)
    await world.after(15_000)
    holder = await lead(world)
    await world.partition.reclaim(holder, "W")
    assert await claim(world) == []


async def test_hand_backs_are_no_crashes(world: World) -> None:
    job = await running(world, max_crashes=1)
    for delivery in range(2, 6):
        await world.partition.finish("W", [end(job, "handback")])
        (job,) = await claim(world)
        assert (job.delivery, job.crashes) == (delivery, 0)


async def test_a_dead_tick_frees_its_task(world: World) -> None:
    await put(world, mode="after", max_crashes=1)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder, next_ms=None)
    await claim(world)
    await world.after(15_000)
    done = await world.act(world.partition.reclaim(holder, "W"))
    assert done.changes["due[t:T]"] == (None, T0 + 17_000)


async def test_only_the_leader_reclaims(world: World) -> None:
    await running(world)
    old = await lead(world)
    await world.after(15_000)
    await lead(world, "M")
    with pytest.raises(LeadershipLostError):
        await world.nothing(world.partition.reclaim(old, "W"))
