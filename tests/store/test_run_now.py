from __future__ import annotations

import pytest

from tests.store.build import T0, claim, due, end, fire, lead, node, put, read
from tests.store.state import World


async def run_now(world: World, call: str = "c", number: int = 1) -> str:
    return await world.partition.run_now(
        "T", run_id=f"run-{number}", job_id=f"job-{number}", call=call
    )


@pytest.mark.parametrize("mode", ["fixed", "after", "once"])
async def test_the_pending_tick_is_brought_forward(world: World, mode: str) -> None:
    await put(world, mode=mode)
    await world.at(T0 + 300)
    done = await world.act(run_now(world))

    assert done.result == "OK"
    moved = (str(T0 + 1000), str(T0 + 300))
    assert done.changes == {
        "task:T.anchor": moved, "task:T.due": moved, "task:T.next": moved, "task:T.nominal": moved,
        "task:T.rev": ("1", "2"),
        "due[t:T]": (T0 + 1000, T0 + 300),
        "call:c:run_now:T": (None, "OK"),
    }  # fmt: skip
    assert done.kinds == []


async def test_a_cron_gets_an_extra_run(world: World) -> None:
    await put(world, mode="cron")
    done = await world.act(run_now(world))

    assert done.touched("call") == {
        "job:job-1", "jobs", "live:T", "q:default:normal", "call:c:run_now:T",
    }  # fmt: skip
    assert done.changes["live:T.run-1"] == (None, "job-1")
    assert done.changes["job:job-1.kind"] == (None, "now")
    (event,) = done.events
    assert (event.type, event.call) == ("job_scheduled", "c")


async def test_a_waiting_retry_is_brought_forward(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    (job,) = await claim(world)
    await world.partition.finish("W", [end(job, "failed", retry=("job-2", 9000))])
    done = await world.act(run_now(world))

    assert done.result == "OK"
    assert done.changes == {
        "due[r:job-2]": (T0 + 10_000, T0 + 1000),
        "call:c:run_now:T": (None, "OK"),
    }


async def test_a_live_run_refuses_it(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    for _ in ("queued", "running"):
        assert await world.nothing(run_now(world)) == "RUNNING"
        await claim(world)


async def test_a_paused_task_refuses_it(world: World) -> None:
    await put(world)
    await world.partition.pause_task("T", reason="", actor="", call="")
    assert await world.nothing(run_now(world)) == "PAUSED"


async def test_an_unknown_task_is_gone(world: World) -> None:
    assert await world.nothing(run_now(world)) == "GONE"


@pytest.mark.parametrize("mode", ["fixed", "after", "cron"])
async def test_sent_again_after_the_first_ran_it_runs_nothing_more(world: World, mode: str) -> None:
    await put(world, mode=mode, first_ms=T0 + 100_000)
    holder = await lead(world)
    await node(world)
    assert await run_now(world) == "OK"
    next_ms = None if mode == "after" else world.now + 100_000
    await fire(world, holder, next_ms=next_ms)
    assert await world.nothing(run_now(world)) == "OK"  # queued
    (job,) = await claim(world)
    assert await world.nothing(run_now(world)) == "OK"  # running
    await world.partition.finish("W", [end(job)])
    await world.after(10)
    assert await world.nothing(run_now(world)) == "OK"  # ended
    assert await due(world) == []
    assert await claim(world) == []


async def test_another_call_runs_it_again(world: World) -> None:
    await put(world, mode="cron")
    await node(world)
    assert await run_now(world) == "OK"
    await world.partition.finish("W", [end(job) for job in await claim(world)])
    assert await run_now(world, call="d", number=2) == "OK"
    assert [job.job_id for job in await claim(world)] == ["job-2"]


async def test_a_second_run_in_the_same_millisecond_is_another_tick(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await run_now(world)
    await fire(world, holder)
    await world.partition.finish("W", [end(job) for job in await claim(world)])
    assert await run_now(world, call="d") == "OK"
    assert (await read(world)).nominal_ms == T0 + 1
