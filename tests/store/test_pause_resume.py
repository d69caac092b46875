from __future__ import annotations

from typing import Any

import pytest

from quiv_dist.core.jitter import jitter_ms
from tests.store.build import T0, claim, due, end, fire, lead, node, put, read, tick
from tests.store.state import World


async def paused(world: World, **changes: Any) -> None:
    await put(world, **changes)
    await world.partition.pause_task("T", reason="for repairs", actor="ann@host", call="")


async def waiting_for_retry(world: World, **changes: Any) -> str:
    """A task whose failed run waits 10 s for its retry, `job-2`; return the leader's holder."""
    await put(world, **changes)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    next_ms = None if changes.get("mode") in {"once", "after"} else T0 + 2000
    await fire(world, holder, next_ms=next_ms)
    (job,) = await claim(world)
    words = await world.partition.finish("W", [end(job, "failed", retry=("job-2", 10_000))])
    assert words == ["RETRY"]
    return holder


# Pause ------------------------------------------------------------------------------------------


async def test_pausing_takes_the_tick_out_of_the_due_set(world: World) -> None:
    await put(world)
    done = await world.act(
        world.partition.pause_task("T", reason="for repairs", actor="ann@host", call="c")
    )

    assert done.result.word == "OK"
    assert done.changes == {
        "due[t:T]": (T0 + 1000, None),
        "task:T.due": (str(T0 + 1000), ""),
        "task:T.state": ("active", "paused"),
        "task:T.rev": ("1", "2"),
        "task:T.reason": (None, "for repairs"),
        "task:T.actor": (None, "ann@host"),
        "task:T.paused_at": (None, str(T0)),
        "call:c:pause:T": (None, "OK"),
    }
    (event,) = done.events
    assert (event.type, event.call) == ("task_paused", "c")
    assert event.task is not None
    assert (event.task.status, event.task.pause_reason) == ("paused", "for repairs")


async def test_pausing_takes_the_waiting_retry_along(world: World) -> None:
    await waiting_for_retry(world)
    done = await world.act(world.partition.pause_task("T", reason="", actor="", call=""))
    assert done.changes["due[r:job-2]"] == (T0 + 11_000, None)
    assert "live:T" not in done.touched()


async def test_a_failure_while_paused_waits_outside_the_due_set(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    (job,) = await claim(world)
    await world.partition.pause_task("T", reason="", actor="", call="")
    assert await world.partition.finish("W", [end(job, "failed", retry=("job-2", 10_000))]) == [
        "RETRY"
    ]
    await world.after(60_000)
    assert await due(world) == []
    done = await world.partition.resume_task("T", delay_ms=0, tick=None, call="")
    assert done.word == "OK"
    assert [item.member for item in await due(world)] == ["r:job-2"]


async def test_a_paused_task_is_left_as_it_is(world: World) -> None:
    await paused(world)
    reply = await world.nothing(
        world.partition.pause_task("T", reason="other", actor="bob", call="c")
    )
    assert reply.word == "SAME"


async def test_pausing_an_unknown_task(world: World) -> None:
    reply = await world.nothing(world.partition.pause_task("T", reason="", actor="", call="c"))
    assert (reply.word, reply.task) == ("GONE", None)


async def test_a_scheduler_pauses_only_the_revision_it_could_not_compute(world: World) -> None:
    await put(world)
    reply = await world.nothing(
        world.partition.pause_task("T", reason="", actor="", call="", revision="2@inc-T")
    )
    assert reply.word == "STALE"
    reply = await world.partition.pause_task("T", reason="", actor="", call="", revision="1@inc-T")
    assert reply.word == "OK"


# Resume -----------------------------------------------------------------------------------------


async def test_resuming_anchors_the_grid_at_now_and_delay(world: World) -> None:
    await paused(world)
    await world.at(T0 + 60_000)
    done = await world.act(world.partition.resume_task("T", delay_ms=500, tick=None, call="c"))

    at = str(T0 + 60_500)
    assert (done.result.word, done.result.server_ms) == ("OK", T0 + 60_000)
    assert done.changes == {
        "due[t:T]": (None, T0 + 60_500),
        "task:T.due": ("", at),
        "task:T.next": (str(T0 + 1000), at),
        "task:T.nominal": (str(T0 + 1000), at),
        "task:T.anchor": (str(T0 + 1000), at),
        "task:T.state": ("paused", "active"),
        "task:T.rev": ("2", "3"),
        "task:T.reason": ("for repairs", ""),
        "task:T.actor": ("ann@host", ""),
        "call:c:resume:T": (None, "OK"),
    }
    (event,) = done.events
    assert (event.type, event.call, event.task) == ("task_resumed", "c", done.result.task)


async def test_a_cron_resumes_at_the_time_given(world: World) -> None:
    await paused(world, mode="cron")
    await world.partition.resume_task("T", delay_ms=0, tick=tick(T0 + 90_000), call="")
    assert (await read(world)).due_ms == T0 + 90_000


@pytest.mark.parametrize(("mode", "armed"), [("once", False), ("after", False), ("cron", True)])
async def test_a_waiting_retry_is_due_at_the_resumption(
    world: World, mode: str, armed: bool
) -> None:
    await waiting_for_retry(world, mode=mode)
    await world.partition.pause_task("T", reason="", actor="", call="")
    await world.at(T0 + 60_000)
    when = tick(T0 + 70_000) if mode == "cron" else None
    await world.partition.resume_task("T", delay_ms=500, tick=when, call="")

    state = await world.dump()
    assert state["due[r:job-2]"] == T0 + 60_500
    assert state.get("due[t:T]") == (T0 + 70_000 if armed else None)


async def test_the_tick_after_a_waiting_retry_comes_an_interval_later_with_its_jitter(
    world: World,
) -> None:
    await waiting_for_retry(world, jitter_ms=300)
    await world.at(T0 + 60_000)
    await world.partition.resume_task("T", delay_ms=0, tick=None, call="")
    row = await read(world)
    assert row.nominal_ms == T0 + 61_000
    assert row.due_ms == T0 + 61_000 + jitter_ms("T", T0 + 61_000, 300)


async def test_a_task_with_a_job_that_runs_or_is_queued_is_not_resumed(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    await world.partition.pause_task("T", reason="", actor="", call="")
    for _ in ("queued", "running"):
        reply = await world.nothing(
            world.partition.resume_task("T", delay_ms=0, tick=None, call="c")
        )
        assert reply.word == "RUNNING"
        await claim(world)


async def test_a_time_that_is_covered_or_of_another_revision_is_stale(world: World) -> None:
    await put(world, mode="cron")
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    await world.partition.finish("W", [end(job) for job in await claim(world)])
    await world.partition.pause_task("T", reason="", actor="", call="")
    resume = world.partition.resume_task

    for time_ms, revision in ((T0 + 1000, ""), (T0 + 9000, "1@inc-T")):
        reply = await world.nothing(
            resume("T", delay_ms=0, tick=tick(time_ms), call="c", revision=revision)
        )
        assert reply.word == "STALE"
    reply = await resume("T", delay_ms=0, tick=tick(T0 + 9000), call="c", revision="2@inc-T")
    assert reply.word == "OK"


async def test_resuming_an_unknown_task(world: World) -> None:
    reply = await world.nothing(world.partition.resume_task("T", delay_ms=0, tick=None, call="c"))
    assert (reply.word, reply.task) == ("GONE", None)


async def test_sent_again_neither_does_more(world: World) -> None:
    await put(world)
    await world.partition.pause_task("T", reason="", actor="", call="p")
    reply = await world.nothing(world.partition.pause_task("T", reason="", actor="", call="p"))
    assert reply.word == "OK"
    await world.partition.resume_task("T", delay_ms=0, tick=None, call="r")
    await world.after(5)
    reply = await world.nothing(world.partition.resume_task("T", delay_ms=0, tick=None, call="r"))
    assert reply.word == "OK"


async def test_a_run_once_task_paused_during_its_run_is_spent_when_that_ends(world: World) -> None:
    """As in quiv: it must not run a second time when it is resumed."""
    await put(world, mode="once")
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder, next_ms=None)
    (job,) = await claim(world)
    await world.partition.pause_task("T", reason="", actor="", call="c1")
    done = await world.act(world.partition.finish("W", [end(job)]))
    assert done.kinds == ["job_completed", "task_ended"]
    assert (await world.partition.resume_task("T", delay_ms=0, tick=None, call="c2")).word == "GONE"
