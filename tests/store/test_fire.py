from __future__ import annotations

import pytest

from quiv_dist.exceptions import LeadershipLostError
from quiv_dist.store.records import Fire
from tests.store.build import T0, claim, due, end, fire, fire_of, lead, node, put, read
from tests.store.state import World


async def test_a_due_tick_becomes_a_job(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    (item,) = await due(world)
    shot = fire_of(item)
    done = await world.act(world.partition.fire(holder, [shot]))

    assert done.result == ["OK"]
    job = f"job:{shot.job_id}"
    stored = {name: new for name, (_, new) in done.changes.items() if name.startswith(job)}
    assert stored.pop(f"{job}.snap")
    assert stored == {
        f"{job}.{name}": value
        for name, value in {
            "status": "scheduled", "entry": "e1", "spec": "spec", "args": "args", "task": "T",
            "name": "Tidy", "run": shot.run_id, "kind": "tick", "nominal": str(T0 + 1000),
            "inc": "inc-T", "attempt": "1", "created": str(T0 + 1000), "handler": "app:tidy",
            "queue": "default", "prio": "normal", "maxc": "3",
        }.items()
    }  # fmt: skip
    moved = (str(T0 + 1000), str(T0 + 2000))
    assert {n: pair for n, pair in done.changes.items() if not n.startswith(job)} == {
        "task:T.due": moved, "task:T.next": moved, "task:T.nominal": moved,
        "task:T.last": ("0", str(T0 + 1000)),
        "task:T.journal": (None, f"enqueued|{T0 + 1000}|{T0 + 1000}|1|"),
        "due[t:T]": (T0 + 1000, T0 + 2000),
        f"live:T.{shot.run_id}": (None, shot.job_id),
        f"jobs[{shot.job_id}]": (None, T0 + 1000),
        "q:default:normal": (None, "stream"),
        "q:default:normal[e1]": (None, {"j": shot.job_id}),
    }  # fmt: skip
    (event,) = done.events
    assert event.type == "job_scheduled"
    assert event.job is not None
    assert event.job.scheduled_for_ms == T0 + 1000
    assert event.task is not None
    assert (event.task.status, event.task.next_run_at_ms) == ("running", T0 + 2000)


async def test_firing_again_what_was_fired_changes_nothing(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    shots = [fire_of(item) for item in await due(world)]
    await world.partition.fire(holder, shots)
    assert await world.nothing(world.partition.fire(holder, shots)) == ["STALE"]


async def test_a_deposed_leader_fires_nothing(world: World) -> None:
    await put(world)
    old = await lead(world)
    await world.at(T0 + 6000)
    await lead(world, "M")
    shots = [fire_of(item) for item in await due(world)]
    with pytest.raises(LeadershipLostError):
        await world.nothing(world.partition.fire(old, shots))


@pytest.mark.parametrize("holder", ["", "L", "L|1", "M|{epoch}"])
async def test_only_the_exact_holder_fires(world: World, holder: str) -> None:
    await put(world)
    epoch = (await lead(world)).split("|")[1]
    await world.at(T0 + 1000)
    shots = [fire_of(item) for item in await due(world)]
    done = None
    with pytest.raises(LeadershipLostError):
        done = await world.act(world.partition.fire(holder.format(epoch=epoch), shots))
    assert done is None
    assert await fire(world, f"L|{epoch}") == ["OK"]


async def test_a_tick_of_another_revision_or_due_time_is_stale(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    (item,) = await due(world)
    for other in (item._replace(revision="2@inc-T"), item._replace(due_ms=item.due_ms - 1)):
        assert await world.nothing(world.partition.fire(holder, [fire_of(other)])) == ["STALE"]


async def test_a_tick_is_not_fired_before_its_time(world: World) -> None:
    await put(world)
    holder = await lead(world)
    _, ahead = await world.partition.peek_due(ahead_ms=2000, most=10)
    shots = [fire_of(item) for item in ahead]
    assert await world.nothing(world.partition.fire(holder, shots)) == ["EARLY"]
    await world.at(T0 + 999)
    assert await world.nothing(world.partition.fire(holder, shots)) == ["EARLY"]
    await world.at(T0 + 1000)
    assert await world.partition.fire(holder, shots) == ["OK"]


async def test_a_covered_nominal_time_is_refused_even_without_the_fence(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    await world.at(T0 + 2000)
    (item,) = await due(world)
    for nominal in (T0 + 1000, T0 + 500):
        shot = fire_of(item, nominal_ms=nominal)
        assert await world.nothing(world.partition.fire(holder, [shot])) == ["DUP"]


async def test_a_removed_task_is_gone(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    shots = [fire_of(item) for item in await due(world)]
    await world.partition.remove_task("T", call="")
    assert await world.nothing(world.partition.fire(holder, shots)) == ["GONE"]


async def test_a_paused_task_is_stale(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    shots = [fire_of(item) for item in await due(world)]
    await world.partition.pause_task("T", reason="", actor="", call="")
    assert await world.nothing(world.partition.fire(holder, shots)) == ["STALE"]


async def test_one_refused_item_does_not_stop_its_neighbours(world: World) -> None:
    for task_id in ("A", "B", "C"):
        await put(world, task_id)
    holder = await lead(world)
    await world.at(T0 + 1000)
    shots = [fire_of(item) for item in await due(world)]
    await world.partition.pause_task("B", reason="", actor="", call="")
    assert await world.partition.fire(holder, shots) == ["OK", "STALE", "OK"]


# Overlap ----------------------------------------------------------------------------------------


async def test_a_tick_that_meets_a_live_run_is_skipped_and_recorded(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    (live,) = await world.reads.live_jobs("T")
    await world.at(T0 + 2000)
    done = await world.act(fire(world, holder))

    assert done.result == ["SKIPPED"]
    assert done.touched() == {"task:T", "due", "journal:T"}
    (event,) = done.events
    assert event.type == "tick_skipped"
    assert event.tick is not None
    assert event.tick.outcome == "skipped"
    assert event.tick.reason == f"job {live} is live"
    assert (event.tick.first_at_ms, event.tick.count) == (T0 + 2000, 1)


async def test_consecutive_skips_are_one_entry_and_one_event(world: World) -> None:
    await put(world)
    holder = await lead(world)
    kinds = []
    for second in range(1, 5):
        await world.at(T0 + second * 1000)
        kinds += (await world.act(fire(world, holder))).kinds
    assert kinds == ["job_scheduled", "tick_skipped"]
    newest, oldest = await world.reads.journal("T")
    assert newest.startswith(f"skipped|{T0 + 2000}|{T0 + 4000}|3|live ")
    assert oldest == f"enqueued|{T0 + 1000}|{T0 + 1000}|1|"


async def test_the_journal_is_capped(world: World) -> None:
    await put(world)
    holder = await lead(world)
    for number in range(1, 230):
        (item,) = (await world.partition.peek_due(ahead_ms=10_000, most=1))[1]
        await world.at(item.due_ms)
        at = item.nominal_ms
        kind = "missed" if number % 2 else "coalesced"
        shot = Fire(
            item.member, item.due_ms, item.revision, None, "", "", at, at + 1000, at + 1000,
            (kind, at, at, 1),
        )  # fmt: skip
        assert await world.partition.fire(holder, [shot]) == ["PASSED"]
    assert len(await world.reads.journal("T")) == 201


# Passed and last ticks --------------------------------------------------------------------------


async def test_missed_ticks_are_recorded_and_announced(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 200_000)
    (item,) = await due(world)
    newest = T0 + 199_000
    shot = Fire(
        item.member, item.due_ms, item.revision, newest, "run-1", "job-1", newest,
        T0 + 201_000, T0 + 201_000, ("missed", T0 + 1000, T0 + 198_000, 198),
    )  # fmt: skip
    done = await world.act(world.partition.fire(holder, [shot]))

    assert done.result == ["OK"]
    assert done.kinds == ["tick_missed", "job_scheduled"]
    missed = done.events[0].tick
    assert missed is not None
    assert (missed.first_at_ms, missed.last_at_ms, missed.count) == (T0 + 1000, T0 + 198_000, 198)
    assert await world.reads.journal("T") == [
        f"enqueued|{newest}|{newest}|1|",
        f"missed|{T0 + 1000}|{T0 + 198_000}|198|",
    ]


async def test_coalesced_ticks_are_recorded_only(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 3000)
    (item,) = await due(world)
    shot = fire_of(item, nominal_ms=T0 + 3000)
    shot.passed = ("coalesced", T0 + 1000, T0 + 2000, 2)
    done = await world.act(world.partition.fire(holder, [shot]))
    assert done.kinds == ["job_scheduled"]
    assert (await world.reads.journal("T"))[1] == f"coalesced|{T0 + 1000}|{T0 + 2000}|2|"


async def test_the_last_tick_ends_the_task_when_its_run_has_ended(world: World) -> None:
    await put(world, mode="once")
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder, next_ms=None)
    row = await read(world)
    assert (row.due_ms, row.wire.status, row.wire.next_run_at_ms) == (-1, "running", T0 + 1000)
    (job,) = await claim(world)
    done = await world.act(world.partition.finish("W", [end(job)]))

    assert done.kinds == ["job_completed", "task_ended"]
    assert await world.partition.read_tasks(["T"]) == [None]
    assert await world.reads.last_job_of_ended("T") == job.job_id


async def test_a_last_tick_that_passes_ends_the_task_at_once(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 200_000)
    (item,) = await due(world)
    at = item.nominal_ms
    shot = Fire(
        item.member, item.due_ms, item.revision, None, "", "", at, None, None, ("missed", at, at, 1)
    )
    done = await world.act(world.partition.fire(holder, [shot]))
    assert done.result == ["PASSED"]
    assert done.kinds == ["tick_missed", "task_ended"]
    assert done.touched() == {"task:T", "tasks", "due"}


async def test_a_task_that_counts_from_its_runs_end_is_armed_by_it(world: World) -> None:
    await put(world, mode="after", every_ms=700)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder, next_ms=None)
    assert (await read(world)).due_ms == -1
    (job,) = await claim(world)
    await world.at(T0 + 5000)
    done = await world.act(world.partition.finish("W", [end(job)]))
    assert done.kinds == ["job_completed"]
    assert done.changes["due[t:T]"] == (None, T0 + 5700)


# Retries ----------------------------------------------------------------------------------------


async def waiting(world: World) -> str:
    await put(world, first_ms=T0)
    holder = await lead(world)
    await node(world)
    await fire(world, holder, next_ms=T0 + 100_000)
    (job,) = await claim(world)
    await world.partition.finish("W", [end(job, "failed", retry=("job-2", 500))])
    return holder


async def test_a_due_retry_goes_into_its_stream(world: World) -> None:
    holder = await waiting(world)
    await world.at(T0 + 500)
    done = await world.act(fire(world, holder))

    assert done.result == ["OK"]
    assert done.changes == {
        "due[r:job-2]": (T0 + 500, None),
        "job:job-2.entry": ("", "e1"),
        "q:default:normal[e1]": (None, {"j": "job-2"}),
    }
    assert done.kinds == ["job_scheduled"]
    (job,) = await claim(world)
    assert (job.job_id, job.attempt, job.spec, job.args) == ("job-2", 2, b"spec", b"args")


async def test_a_retry_is_refused_early_stale_and_when_it_is_gone(world: World) -> None:
    holder = await waiting(world)
    fire_now = world.partition.fire
    assert await world.nothing(fire_now(holder, [Fire("r:job-2", T0 + 500)])) == ["EARLY"]
    await world.at(T0 + 500)
    assert await world.nothing(fire_now(holder, [Fire("r:job-2", T0 + 499)])) == ["STALE"]
    assert await world.nothing(fire_now(holder, [Fire("r:other", T0 + 500)])) == ["GONE"]
    await world.partition.cancel("job-2", call="")
    assert await world.nothing(fire_now(holder, [Fire("r:job-2", T0 + 500)])) == ["GONE"]
