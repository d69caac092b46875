"""A call whose reply was lost is sent again: the second time it changes nothing more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from quiv_dist.store.records import Fire, TaskRow
from tests.store.build import (
    T0,
    claim,
    definition,
    due,
    end,
    fire_of,
    lead,
    node,
    put,
    read,
    submission,
    submitted,
    tick,
)
from tests.store.state import World

Call = Callable[[], Awaitable[Any]]
Prepare = Callable[[World], Awaitable[Call]]


async def put_new(world: World) -> Call:
    return lambda: world.partition.put_task(
        "N", definition(), tick(T0 + 5), if_exists="error", read=None, incarnation="i", call="c"
    )


async def put_again(world: World) -> Call:
    row: TaskRow = await read(world)
    return lambda: world.partition.put_task(
        "T", definition(trigger=b"x"), tick(T0 + 5000), if_exists="replace", read=row,
        incarnation="i", call="c",
    )  # fmt: skip


async def update(world: World) -> Call:
    row = await read(world)
    return lambda: world.partition.update_task("T", row, definition(), tick(T0 + 9000), call="c")


async def pause(world: World) -> Call:
    return lambda: world.partition.pause_task("T", reason="r", actor="a", call="c")


async def resume(world: World) -> Call:
    await world.partition.pause_task("T", reason="", actor="", call="")
    return lambda: world.partition.resume_task("T", delay_ms=5, tick=None, call="c")


async def remove(world: World) -> Call:
    return lambda: world.partition.remove_task("T", call="c")


async def run_now(world: World) -> Call:
    return lambda: world.partition.run_now("T", run_id="r", job_id="j", call="c")


async def run_cron_now(world: World) -> Call:
    await put(world, "C", mode="cron")
    return lambda: world.partition.run_now("C", run_id="r", job_id="j", call="c")


async def cancel(world: World) -> Call:
    return lambda: world.partition.cancel("job-1", call="c")


async def cancel_running(world: World) -> Call:
    await claim(world)
    return lambda: world.partition.cancel("job-1", call="c")


async def retire(world: World) -> Call:
    return lambda: world.partition.retire_node("W")


async def register(world: World) -> Call:
    async def again() -> None:
        await node(world, "X")

    return again


SAME: dict[str, Prepare] = {
    "put_task, new": put_new, "put_task, replaced": put_again, "update_task": update,
    "pause_task": pause, "resume_task": resume, "remove_task": remove, "run_now": run_now,
    "run_now of a cron": run_cron_now, "cancel": cancel, "cancel of a running job": cancel_running,
    "retire_node": retire, "register_node": register,
}  # fmt: skip


@pytest.fixture
async def busy(world: World) -> World:
    """A task `T`, a node `W`, a queued `job-1`."""
    await put(world)
    await node(world)
    await submitted(world, 1)
    return world


@pytest.mark.parametrize("name", SAME)
async def test_it_says_the_same_and_changes_nothing(busy: World, name: str) -> None:
    call = await SAME[name](busy)
    first = await call()
    await busy.after(3)
    if name == "register_node":
        await busy.after(-3)
    again = await busy.nothing(call())
    assert getattr(again, "word", again) == getattr(first, "word", first)


@pytest.mark.parametrize("name", ["run_now", "resume_task", "pause_task", "cancel"])
async def test_a_different_call_is_not_taken_for_it(busy: World, name: str) -> None:
    """The same id in another operation or on another task is another call."""
    await put(busy, "U")
    await (await SAME[name](busy))()
    assert (await busy.partition.pause_task("U", reason="", actor="", call="c")).word == "OK"
    done = await busy.act(busy.partition.remove_task("T", call="c"))
    assert "task_removed" in done.kinds


async def test_submit_says_which_were_there(busy: World) -> None:
    items = [submission(n) for n in (1, 2)]
    assert await busy.partition.submit(items, call="c") == [False, True]
    assert await busy.nothing(busy.partition.submit(items, call="c")) == [False, False]


async def test_fire_refuses_what_it_fired(busy: World) -> None:
    holder = await lead(busy)
    await busy.at(T0 + 1000)
    shots: list[Fire] = [fire_of(item) for item in await due(busy)]
    assert await busy.partition.fire(holder, shots) == ["OK"]
    assert await busy.nothing(busy.partition.fire(holder, shots)) == ["STALE"]


async def test_claim_gives_nothing_twice(busy: World) -> None:
    assert len(await claim(busy)) == 1
    assert await busy.nothing(claim(busy)) == []


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled", "handback"])
async def test_finish_refuses_what_it_ended(busy: World, outcome: str) -> None:
    (job,) = await claim(busy)
    ends = [end(job, outcome)]
    assert await busy.partition.finish("W", ends) == ["OK"]
    assert await busy.nothing(busy.partition.finish("W", ends)) == ["REFUSED"]


async def test_a_retry_is_scheduled_once(busy: World) -> None:
    (job,) = await claim(busy)
    ends = [end(job, "failed", retry=("job-2", 10))]
    assert await busy.partition.finish("W", ends) == ["RETRY"]
    assert await busy.nothing(busy.partition.finish("W", ends)) == ["REFUSED"]


async def test_a_sweep_finds_nothing_twice(busy: World) -> None:
    holder = await lead(busy)
    await claim(busy)
    await busy.after(15_000)
    assert await busy.partition.reclaim(holder, "W") == ["job-1"]
    assert await busy.nothing(busy.partition.reclaim(holder, "W")) == []
