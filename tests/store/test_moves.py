"""The table of a job's moves, walked against the scripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from quiv_dist.core.jobs import MOVES, Move, is_final
from quiv_dist.store.records import Finish
from tests.store.build import claim, end, lead, node, running, submission, submitted
from tests.store.state import Outcome, World

# Each walk brings a job `job-1` to the move's source and makes the move.
Walk = Callable[[World], Awaitable[Outcome]]


async def enqueued(world: World) -> Outcome:
    return await world.act(world.partition.submit([submission(1)], call=""))


async def claimed(world: World) -> Outcome:
    await node(world)
    await submitted(world, 1)
    return await world.act(claim(world))


async def cancelled(world: World) -> Outcome:
    await submitted(world, 1)
    return await world.act(world.partition.cancel("job-1", call=""))


async def unserved(world: World) -> Outcome:
    await node(world, handlers=())
    await submitted(world, 1)
    await claim(world)
    await world.after(60_000)
    holder = await lead(world)
    return await world.act(world.partition.settle_parked(holder))


async def _ended(world: World, outcome: str, retry: tuple[str, int] | None = None) -> Outcome:
    job = await running(world)
    return await world.act(world.partition.finish("W", [end(job, outcome, retry=retry)]))


async def returned(world: World) -> Outcome:
    return await _ended(world, "completed")


async def raised(world: World) -> Outcome:
    return await _ended(world, "failed")


async def raised_with_attempts_left(world: World) -> Outcome:
    return await _ended(world, "failed", ("job-2", 1000))


async def stopped(world: World) -> Outcome:
    return await _ended(world, "cancelled")


async def handed_back(world: World) -> Outcome:
    return await _ended(world, "handback")


async def _died(world: World, max_crashes: int) -> Outcome:
    await running(world, max_crashes=max_crashes)
    await world.after(15_000)
    holder = await lead(world)
    return await world.act(world.partition.reclaim(holder, "W"))


async def worker_died(world: World) -> Outcome:
    return await _died(world, 3)


async def worker_died_too_often(world: World) -> Outcome:
    return await _died(world, 1)


WALKS: dict[str, Walk] = {
    "enqueued": enqueued,
    "claimed": claimed,
    "cancelled": cancelled,
    "unserved": unserved,
    "returned": returned,
    "raised": raised,
    "raised, attempts left": raised_with_attempts_left,
    "stopped": stopped,
    "handed back": handed_back,
    "worker died": worker_died,
    "worker died too often": worker_died_too_often,
}


def test_every_move_is_walked() -> None:
    assert [move.cause for move in MOVES] == list(WALKS)


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.cause)
async def test_a_move_leads_where_the_table_says_and_says_so(world: World, move: Move) -> None:
    done = await WALKS[move.cause](world)

    source = None if move.source is None else move.source.value
    assert done.changes["job:job-1.status"] == (source, move.target.value)
    kinds = [event.value for event in move.events]
    # The final failure of a submission is a dead letter as well.
    dead = ["job_dead"] if move.cause in {"raised", "unserved"} else []
    assert done.kinds == kinds + dead
    moved = [event.job for event in done.events if event.job is not None]
    assert moved[-1].status == move.target.value


@pytest.mark.parametrize("move", [m for m in MOVES if is_final(m.target)], ids=lambda m: m.cause)
async def test_no_move_leads_out_of_an_end(world: World, move: Move) -> None:
    await WALKS[move.cause](world)
    (row,) = await world.partition.read_jobs(["job-1"])
    assert row is not None
    ended = row.wire
    await node(world, "X")

    assert await world.nothing(world.partition.cancel("job-1", call="")) is False
    assert await world.nothing(world.partition.submit([submission(1)], call="")) == [False]
    for delivery in (ended.delivery, ended.delivery + 1):
        late = Finish("job-1", "e", delivery, "completed", 1.0)
        assert await world.nothing(world.partition.finish("W", [late])) == ["REFUSED"]
        assert (await world.partition.renew("W", [("job-1", "e", delivery)])).lost == ["job-1"]
    assert await claim(world, "X") == []
    (row,) = await world.partition.read_jobs(["job-1"])
    assert row is not None
    assert row.wire == ended
