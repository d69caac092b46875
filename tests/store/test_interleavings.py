"""Processes that stop between two calls, and calls that cross: each must change nothing twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from quiv_dist.exceptions import LeadershipLostError
from quiv_dist.store.records import Fire, UnregisteredError
from tests.store.build import (
    NORMAL,
    T0,
    claim,
    definition,
    due,
    end,
    fire,
    fire_of,
    lead,
    node,
    put,
    read,
    running,
    submitted,
    tick,
)
from tests.store.state import World

STREAMS = [("default", "normal")]


# A write and a fire -----------------------------------------------------------------------------


async def test_an_update_computed_before_a_fire_does_not_arm_its_tick_again(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    before = await read(world)
    assert await fire(world, holder) == ["OK"]

    moved = world.partition.update_task("T", before, definition(name="X"), tick(T0 + 1000), call="")
    assert (await world.nothing(moved)).word == "STALE"
    assert await world.reads.next_due_ms() == T0 + 2000
    after = await read(world)
    kept = world.partition.update_task("T", after, definition(name="X"), None, call="")
    assert (await kept).word == "OK"
    state = await world.dump()
    assert [name for name in state if name.startswith("due[")] == ["due[t:T]"]
    assert state["due[t:T]"] == T0 + 2000


async def test_a_fire_computed_before_an_update_does_not_fire_the_old_tick(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    shots = [fire_of(item) for item in await due(world)]
    row = await read(world)
    await world.partition.update_task("T", row, definition(name="X"), tick(T0 + 9000), call="")

    assert await world.nothing(world.partition.fire(holder, shots)) == ["STALE"]
    assert await world.reads.next_due_ms() == T0 + 9000


async def test_a_fire_computed_before_a_pause_and_resume_is_stale(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    shots = [fire_of(item) for item in await due(world)]
    await world.partition.pause_task("T", reason="", actor="", call="")
    await world.partition.resume_task("T", delay_ms=0, tick=None, call="")
    assert await world.nothing(world.partition.fire(holder, shots)) == ["STALE"]
    assert await fire(world, holder) == ["OK"]


async def test_two_leaders_with_one_look_ahead_fire_a_tick_once(world: World) -> None:
    await put(world)
    old = await lead(world)
    await world.at(T0 + 5000)
    shots = [fire_of(item) for item in await due(world)]
    new = await lead(world, "M")
    assert await world.partition.fire(new, shots) == ["OK"]
    with pytest.raises(LeadershipLostError):
        await world.nothing(world.partition.fire(old, shots))
    assert await world.nothing(world.partition.fire(new, shots)) == ["STALE"]


async def test_a_look_ahead_at_a_removed_task_does_not_fire_the_one_added_again(
    world: World,
) -> None:
    """Its id, revision number and due time may be the same; its incarnation is not."""
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    shots = [fire_of(item) for item in await due(world)]
    row = await read(world)
    await world.partition.remove_task("T", call="")
    await world.partition.put_task(
        "T", definition(), tick(T0 + 1000), if_exists="error", read=None, incarnation="new", call=""
    )
    assert await world.nothing(world.partition.fire(holder, shots)) == ["STALE"]
    stale = world.partition.update_task("T", row, definition(name="X"), None, call="")
    assert (await world.nothing(stale)).word == "STALE"


# A worker that stops ----------------------------------------------------------------------------


async def read_but_not_claimed(world: World) -> Any:
    await node(world)
    await submitted(world, 1)
    await world.reads.create_groups(STREAMS)
    return await world.reads.wait_for_entry("W", STREAMS, 100)


@pytest.mark.parametrize("how", ["recover_pending", "retire_node"])
async def test_a_worker_stopped_between_read_and_claim(world: World, how: str) -> None:
    """What it was handed goes back, is delivered once, and its late claim gets nothing."""
    delivered = await read_but_not_claimed(world)
    await world.after(20_000)
    holder = await lead(world)
    if how == "recover_pending":
        back = await world.partition.recover_pending(holder, "default", "normal")
        assert back == ["job-1"]
    else:
        assert await world.partition.retire_node("W", holder=holder) == "OK"
    await node(world, "X")
    (job,) = await claim(world, "X")
    assert (job.job_id, job.delivery) == ("job-1", 1)

    await node(world, "W")
    late = world.partition.claim("W", slots=5, streams=NORMAL, delivered=delivered)
    assert (await world.nothing(late))[1] == []
    await world.partition.finish("X", [end(job)])
    late = world.partition.claim("W", slots=5, streams=NORMAL, delivered=delivered)
    assert (await world.nothing(late))[1] == []


async def test_its_late_claim_before_anybody_else_gets_the_entry_put_back(world: World) -> None:
    delivered = await read_but_not_claimed(world)
    holder = await lead(world)
    await world.partition.recover_pending(holder, "default", "normal")
    _, jobs = await world.partition.claim("W", slots=5, streams=NORMAL, delivered=delivered)
    assert [(job.job_id, job.delivery) for job in jobs] == [("job-1", 1)]
    assert await claim(world) == []


async def test_a_worker_stopped_between_claim_and_finish(world: World) -> None:
    """Its late finish is refused, the new delivery's is not."""
    old = await running(world)
    await world.after(15_000)
    holder = await lead(world)
    await world.partition.reclaim(holder, "W")
    assert await world.nothing(world.partition.finish("W", [end(old)])) == ["REFUSED"]
    await node(world, "X")
    (new,) = await claim(world, "X")
    assert await world.nothing(world.partition.finish("W", [end(old)])) == ["REFUSED"]
    assert await world.partition.finish("X", [end(new)]) == ["OK"]
    assert await world.nothing(world.partition.finish("W", [end(old)])) == ["REFUSED"]


async def test_the_same_worker_with_both_deliveries_ends_only_the_new_one(world: World) -> None:
    old = await running(world)
    await world.after(15_000)
    holder = await lead(world)
    await world.partition.reclaim(holder, "W")
    (new,) = await claim(world)
    assert await world.partition.finish("W", [end(old), end(new)]) == ["REFUSED", "OK"]


async def test_a_renewal_after_a_reclaim_is_told_that_the_job_is_lost(world: World) -> None:
    old = await running(world)
    await world.after(15_000)
    holder = await lead(world)
    await world.partition.reclaim(holder, "W")
    reply = await world.partition.renew("W", [(old.job_id, old.entry, old.delivery)])
    assert reply.lost == ["job-1"]
    assert not [name for name in await world.dump() if name.startswith("leases:")]


async def test_a_retired_worker_that_wakes_takes_nothing_before_it_registers(world: World) -> None:
    """Nobody would watch its leases."""
    await node(world)
    await world.after(15_000)
    holder = await lead(world)
    assert await world.partition.retire_node("W", holder=holder) == "OK"
    await submitted(world, 1)
    before = await world.dump()
    with pytest.raises(UnregisteredError):
        await claim(world)
    assert await world.dump() == before
    assert (await world.partition.renew("W", [])).known is False
    await node(world)
    (job,) = await claim(world)
    await world.after(15_000)
    assert await world.partition.reclaim(holder, "W") == [job.job_id]


async def test_a_cancel_and_a_claim_that_cross(world: World) -> None:
    await node(world)
    await submitted(world, 1, 2)
    (first,) = await claim(world, slots=1)
    assert await world.partition.cancel("job-1", call="") is True
    assert await world.partition.cancel("job-2", call="") is True
    assert await claim(world) == []
    done = await world.act(world.partition.finish("W", [end(first)]))
    assert done.kinds == ["job_cancelled"]


# A leader that was stopped and goes on ----------------------------------------------------------

LEADERS: dict[str, Callable[[World, str], Awaitable[Any]]] = {
    "fire": lambda w, h: w.partition.fire(
        h, [Fire("t:T", T0 + 1000, "1@inc-T", T0 + 1000, "r", "j")]
    ),
    "fire of a retry": lambda w, h: w.partition.fire(h, [Fire("r:job-1", T0)]),
    "reclaim": lambda w, h: w.partition.reclaim(h, "W"),
    "recover_pending": lambda w, h: w.partition.recover_pending(h, "default", "normal"),
    "retire_node": lambda w, h: w.partition.retire_node("W", holder=h),
    "settle_parked": lambda w, h: w.partition.settle_parked(h),
    "purge": lambda w, h: w.partition.purge(h),
    "audit": lambda w, h: w.partition.audit(h, ["T"]),
}


@pytest.mark.parametrize("name", LEADERS)
@pytest.mark.parametrize("successor", [True, False])
async def test_a_deposed_leader_changes_nothing(world: World, name: str, successor: bool) -> None:
    await put(world)
    await running(world)
    await submitted(world, 2, handler="app:none")
    await claim(world)
    old = await lead(world)
    await world.after(3_600_000)
    if successor:
        await lead(world, "M")
    else:
        await world.partition.resign(old)
    with pytest.raises(LeadershipLostError):
        await world.nothing(LEADERS[name](world, old))
    before = await world.dump()
    with pytest.raises(LeadershipLostError):
        await LEADERS[name](world, old)
    assert await world.dump() == before
    assert await world.events() == []


async def test_a_deposed_leader_neither_renews_nor_resigns(world: World) -> None:
    old = await lead(world)
    await world.after(6000)
    new = await lead(world, "M")
    assert (await world.nothing(world.partition.renew_leader(old, lease_ms=5000))).holder == new
    assert await world.nothing(world.partition.resign(old)) is False
