from __future__ import annotations

import msgspec
import pytest

from quiv_dist.store.records import Finish
from tests.store.build import T0, claim, due, end, fire, lead, node, put, read, running, submitted
from tests.store.state import World


async def test_a_completed_job_keeps_a_small_record_and_nothing_else(world: World) -> None:
    job = await running(world)
    await world.at(T0 + 50)
    done = await world.act(world.partition.finish("W", [end(job, result=b"42")]))

    assert done.result == ["OK"]
    final = {
        "task": "run-1", "name": "once", "run": "run-1", "kind": "submit", "nominal": "",
        "attempt": "1", "created": str(T0), "handler": "app:tidy", "queue": "default",
        "prio": "normal", "node": "W", "deliv": "1", "crashes": "0", "started": str(T0),
        "ended": str(T0 + 50), "dur": "1.500", "err": "", "dead": "",
    }  # fmt: skip
    kept = {name: new for name, (_, new) in done.changes.items() if name.startswith("job:")}
    assert {name: value for name, value in kept.items() if value is not None} == {
        "job:job-1.status": "completed", "job:job-1.result": "42",
        "job:job-1.ended": str(T0 + 50), "job:job-1.dur": "1.500", "job:job-1.err": "",
        "job:job-1.dead": "", "job:job-1.crashes": "0",
    }  # fmt: skip
    state = await world.dump()
    stored = {name[10:]: value for name, value in state.items() if name.startswith("job:job-1.")}
    assert stored == {**final, "status": "completed", "result": "42"}
    assert {name: pair for name, pair in done.changes.items() if name not in kept} == {
        "ended[job-1]": (None, T0 + 60_050),
        "leases:W[job-1]": (T0 + 15_000, None),
        "q:default:normal[e1]": ({"j": "job-1"}, None),
    }
    (event,) = done.events
    assert event.type == "job_completed"
    (row,) = await world.partition.read_jobs(["job-1"])
    assert row is not None
    assert row.wire == event.job
    assert row.result == b"42"
    assert (row.wire.duration_seconds, row.wire.ended_at_ms) == (0.0015, T0 + 50)


async def test_only_the_current_delivery_can_end_a_job(world: World) -> None:
    job = await running(world)
    await node(world, "X")
    good = end(job)
    others = [
        ("W", Finish("job-2", job.entry, 1, "completed", 1.0)),
        ("W", Finish("job-1", "1-1", 1, "completed", 1.0)),
        ("W", Finish("job-1", job.entry, 2, "completed", 1.0)),
        ("X", good),
    ]
    for node_id, other in others:
        refused = await world.nothing(world.partition.finish(node_id, [other]))
        assert refused == ["REFUSED"]
    assert await world.partition.finish("W", [good]) == ["OK"]
    assert await world.nothing(world.partition.finish("W", [good])) == ["REFUSED"]


async def test_a_job_that_was_not_claimed_cannot_end(world: World) -> None:
    await node(world)
    await submitted(world, 1)
    state = await world.dump()
    entry = world.entry_id(state["job:job-1.entry"])
    early = Finish("job-1", entry, 0, "completed", 1.0)
    assert await world.nothing(world.partition.finish("W", [early])) == ["REFUSED"]


async def test_a_batch_is_judged_item_by_item(world: World) -> None:
    await node(world)
    await submitted(world, 1, 2)
    first, second = await claim(world)
    ends = [end(first), end(first), end(second, "failed", error="boom")]
    assert await world.partition.finish("W", ends) == ["OK", "REFUSED", "OK"]


async def test_a_failed_submission_is_a_dead_letter(world: World) -> None:
    job = await running(world)
    done = await world.act(world.partition.finish("W", [end(job, "failed", error="boom")]))

    assert done.kinds == ["job_failed", "job_dead"]
    assert done.changes["dead[job-1]"] == (None, T0)
    assert not [name for name in done.changes if name.startswith("ended")]
    (row,) = await world.partition.read_jobs(["job-1"])
    assert row is not None
    assert (row.wire.status, row.wire.dead, row.wire.error_message) == ("failed", True, "boom")
    state = await world.dump()
    assert (state["job:job-1.spec"], state["job:job-1.args"]) == ("spec", "args")
    assert await world.reads.dead_ids() == ["job-1"]


@pytest.mark.parametrize(("mode", "dead"), [("once", True), ("fixed", False), ("after", False)])
async def test_of_tasks_only_a_run_once_is_dead_lettered(
    world: World, mode: str, dead: bool
) -> None:
    await put(world, mode=mode)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder, next_ms=T0 + 2000 if mode == "fixed" else None)
    (job,) = await claim(world)
    done = await world.act(world.partition.finish("W", [end(job, "failed")]))
    assert ("job_dead" in done.kinds) == dead
    assert ("task_ended" in done.kinds) == (mode == "once")


async def test_dead_letters_are_capped_and_the_oldest_expire(world: World) -> None:
    job = await running(world)
    flat = [value for n in range(10_000) for value in (T0 - 10_000 + n, f"old-{n}")]
    await world.command("ZADD", world.keys.key("dead"), *flat)
    done = await world.act(world.partition.finish("W", [end(job, "failed")]))
    assert done.changes["dead[old-0]"] == (T0 - 10_000, None)
    assert done.changes["ended[old-0]"] == (None, T0)
    assert len(await world.reads.dead_ids()) == 10_000
    await world.command("ZREM", world.keys.key("dead"), *flat[1::2])


async def test_an_error_of_any_characters_is_kept(world: World) -> None:
    job = await running(world)
    error = 'caf\u00e9 "\\\x00\x7f</script>\n\u2028 \U0001f600'
    done = await world.act(world.partition.finish("W", [end(job, "failed", error=error)]))
    event = done.events[0]
    assert event.job is not None
    assert event.job.error_message == error


async def test_an_error_with_half_a_character_does_not_lose_the_batch(world: World) -> None:
    """A file name that is no text comes as surrogates, which cannot be encoded."""
    job = await running(world)
    assert await world.partition.finish("W", [end(job, "failed", error="bad \udcff name")]) == [
        "OK"
    ]
    (row,) = await world.partition.read_jobs(["job-1"])
    assert row is not None
    assert row.wire.error_message == "bad \\udcff name"


async def test_progress_is_still_there_when_the_job_has_ended(world: World) -> None:
    job = await running(world)
    body = msgspec.json.encode({"args": [1], "kwargs": {}})
    await world.partition.progress("W", job.job_id, 1, body)
    await world.partition.finish("W", [end(job)])
    (row,) = await world.partition.read_jobs(["job-1"])
    assert row is not None
    assert row.progress == body


# Retries ----------------------------------------------------------------------------------------


async def test_a_retry_waits_in_the_due_set(world: World) -> None:
    job = await running(world)
    await world.at(T0 + 50)
    failed = end(job, "failed", error="boom", retry=("job-1b", 500))
    done = await world.act(world.partition.finish("W", [failed]))

    assert done.result == ["RETRY"]
    assert done.kinds == ["job_failed", "job_retrying"]
    for event in done.events:
        assert event.job is not None
        assert (event.job.id, event.job.status, event.job.attempt) == ("job-1", "failed", 1)
        assert event.job.dead is False
    assert done.changes["due[r:job-1b]"] == (None, T0 + 550)
    state = await world.dump()
    assert state["job:job-1b.run"] == "run-1"
    assert state["job:job-1b.attempt"] == "2"
    assert (state["job:job-1b.spec"], state["job:job-1b.args"]) == ("spec", "args")
    assert not [name for name in done.changes if name.startswith("dead")]


async def test_the_task_shows_its_retry(world: World) -> None:
    await put(world, mode="after")
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder, next_ms=None)
    (job,) = await claim(world)
    await world.partition.finish("W", [end(job, "failed", retry=("job-2", 30_000))])

    wire = (await read(world)).wire
    assert (wire.status, wire.retry_attempt, wire.next_run_at_ms) == ("active", 1, T0 + 31_000)
    await world.at(T0 + 31_000)
    await fire(world, holder)
    assert (await read(world)).wire.status == "running"
    (job,) = await claim(world)
    await world.partition.finish("W", [end(job)])
    wire = (await read(world)).wire
    assert (wire.status, wire.retry_attempt) == ("active", 0)
    assert (await read(world)).due_ms == T0 + 32_000


async def test_a_run_that_waits_for_its_retry_is_live_for_overlap(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    (job,) = await claim(world)
    await world.partition.finish("W", [end(job, "failed", retry=("job-2", 30_000))])
    await world.at(T0 + 2000)
    assert await fire(world, holder) == ["SKIPPED"]


async def test_without_its_task_there_is_nothing_to_retry_for(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    (job,) = await claim(world)
    await world.partition.remove_task("T", call="")
    await put(world, mode="once")
    done = await world.act(
        world.partition.finish("W", [end(job, "failed", retry=("job-2", 30_000))])
    )
    assert done.result == ["OK"]
    assert done.kinds == ["job_cancelled"]
    assert not done.touched() & {"task:T", "live:T", "due", "dead"}


# Stops ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled", "handback"])
async def test_a_stored_cancel_decides_whatever_the_handler_did(world: World, outcome: str) -> None:
    job = await running(world)
    assert await world.partition.cancel("job-1", call="") is True
    done = await world.act(world.partition.finish("W", [end(job, outcome, retry=("job-2", 1000))]))
    assert done.result == ["OK"]
    assert done.kinds == ["job_cancelled"]


async def test_a_job_handed_back_is_delivered_again(world: World) -> None:
    job = await running(world)
    done = await world.act(world.partition.finish("W", [end(job, "handback")]))

    assert done.result == ["OK"]
    assert done.changes == {
        "job:job-1.status": ("running", "scheduled"),
        "job:job-1.node": ("W", ""),
        "job:job-1.entry": ("e1", "e2"),
        "job:job-1.crashes": (None, "0"),
        "leases:W[job-1]": (T0 + 15_000, None),
        "q:default:normal[e1]": ({"j": "job-1"}, None),
        "q:default:normal[e2]": (None, {"j": "job-1"}),
    }
    assert done.kinds == ["job_scheduled"]
    (again,) = await claim(world)
    assert (again.delivery, again.crashes, again.attempt) == (2, 0, 1)
    assert await world.nothing(world.partition.finish("W", [end(job)])) == ["REFUSED"]


async def test_a_paused_task_is_not_armed_by_the_end_of_its_run(world: World) -> None:
    await put(world, mode="after")
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder, next_ms=None)
    (job,) = await claim(world)
    await world.partition.pause_task("T", reason="", actor="", call="")
    done = await world.act(world.partition.finish("W", [end(job)]))
    assert done.kinds == ["job_completed"]
    assert await due(world) == []
