from __future__ import annotations

from tests.store.build import claim, end, node, running, submitted
from tests.store.state import World


async def test_a_job_whose_claim_was_never_heard_of_goes_back_without_a_crash(world: World) -> None:
    heard = await running(world)
    await submitted(world, 2)
    (unheard,) = await claim(world)

    done = await world.act(world.partition.surrender("W", [heard.job_id]))

    assert done.result == [unheard.job_id]
    assert done.kinds == ["job_scheduled"]
    assert done.changes["job:job-2.status"] == ("running", "scheduled")
    assert not [name for name in done.changes if name.startswith("job:job-1.")]
    (again,) = await claim(world)
    assert (again.job_id, again.delivery, again.crashes) == (unheard.job_id, 2, 0)
    words = await world.partition.finish("W", [end(unheard), end(again), end(heard)])
    assert words == ["REFUSED", "OK", "OK"]


async def test_what_a_node_knows_of_stays(world: World) -> None:
    job = await running(world)
    await world.nothing(world.partition.surrender("W", [job.job_id]))


async def test_another_nodes_jobs_stay(world: World) -> None:
    await running(world)
    await node(world, "X")
    assert await world.nothing(world.partition.surrender("X", [])) == []


async def test_an_entry_of_a_blocking_read_whose_reply_was_lost_goes_back(world: World) -> None:
    await node(world, "W")
    await submitted(world, 1)
    streams = [("default", "normal")]
    await world.reads.create_groups(streams)
    assert await world.reads.wait_for_entry("W", streams, 100)

    done = await world.act(world.partition.surrender("W", [], streams))

    assert done.result == ["job-1"]
    assert done.kinds == []
    (job,) = await claim(world)
    assert (job.job_id, job.delivery) == ("job-1", 1)
