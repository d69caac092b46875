"""Workers that are killed, frozen, asked to end, or taken down by their job."""

from __future__ import annotations

import asyncio
from statistics import median

from quiv_dist.core.wire import Envelope
from tests.acceptance import fleet_app
from tests.acceptance.budgets import (
    AFTER_SPLIT_S,
    AFTER_WORKER_KILL_S,
    AFTER_WORKER_SPLIT_S,
    JOB_LEASE_S,
)
from tests.acceptance.conftest import Report
from tests.acceptance.load import add_tasks
from tests.chaos.evidence import read_ledger
from tests.chaos.verdict import judge
from tests.fleet import Fleet, until

KILLS = 3


async def delivered(fleet: Fleet, job_id: str, delivery: int, timeout_s: float) -> Envelope:
    """Wait until a delivery of a job has begun."""
    return await fleet.tape.first(
        lambda event: (
            event.type == "job_started"
            and event.job is not None
            and event.job.id == job_id
            and event.job.delivery == delivery
        ),
        timeout_s=timeout_s,
        what=f"delivery {delivery} of job {job_id}",
    )


async def begun(fleet: Fleet, job_id: str, times: int = 1) -> None:
    """Wait until the job's handler has noted so many starts."""

    def has_begun() -> bool:
        lines = read_ledger(fleet.ledger)
        return sum(line.job == job_id and line.what == "start" for line in lines) >= times

    await until(has_begun, timeout_s=10, what=f"job {job_id} begins")


async def ended(fleet: Fleet, job_id: str, timeout_s: float = 30) -> Envelope:
    return await fleet.tape.first(
        lambda event: (
            event.type in {"job_completed", "job_failed", "job_cancelled"}
            and event.job is not None
            and event.job.id == job_id
        ),
        timeout_s=timeout_s,
        what=f"the end of job {job_id}",
    )


async def test_a_killed_workers_job_is_delivered_again_within_five_seconds(
    fleet: Fleet, report: Report
) -> None:
    await fleet.scheduler()
    for _ in range(2):
        await fleet.worker()
    submit = fleet.client.handler(max_crashes=KILLS + 1)(fleet_app.hold).submit_async
    run = await submit(3.0)  # type: ignore[call-arg]
    took: list[float] = []
    for kill in range(1, KILLS + 1):
        start = await delivered(fleet, run.job_id, kill, 20)
        await begun(fleet, run.job_id, kill)
        assert start.job is not None
        victim = fleet.by_node(start.job.node_id or "")
        killed_s = fleet.disturb(victim).kill()
        fleet.launch("worker")
        again = await delivered(fleet, run.job_id, kill + 1, AFTER_WORKER_SPLIT_S)
        assert again.job is not None
        assert again.job.node_id != start.job.node_id
        took.append(again.at_ms / 1000 - killed_s)
    end = await ended(fleet, run.job_id)
    assert end.type == "job_completed"
    assert end.job is not None
    assert (end.job.delivery, end.job.attempt, end.job.crashes) == (KILLS + 1, 1, KILLS)
    await judge(fleet)
    report("from kill -9 of a worker to the next start of its job", took)
    assert median(took) < AFTER_WORKER_KILL_S
    assert max(took) < AFTER_WORKER_SPLIT_S


async def test_a_worker_killed_together_with_the_leader_costs_no_lease(
    fleet: Fleet, report: Report
) -> None:
    # One process that leads and works is what an application with all roles is.
    both = await fleet.joined(fleet.launch("application"))
    assert await fleet.leader() is both
    run = await fleet.client.handler(max_crashes=2)(fleet_app.stubborn).submit_async(6.0)
    await begun(fleet, run.job_id)
    await fleet.scheduler()
    await fleet.worker()
    await add_tasks(fleet, 5)
    # Standbys look at workers every two seconds.
    joined_ms = fleet.tape.events[-1].at_ms
    await fleet.tape.first(
        lambda event: event.at_ms > joined_ms + 3000, timeout_s=10, what="three seconds of ticks"
    )
    killed_s = fleet.disturb(both).kill()
    again = await delivered(fleet, run.job_id, 2, AFTER_WORKER_SPLIT_S)
    took_s = again.at_ms / 1000 - killed_s
    report("from kill -9 of leader and worker in one to the next start of its job", [took_s])
    assert took_s < AFTER_SPLIT_S + AFTER_WORKER_KILL_S
    await judge(fleet)


async def test_a_frozen_workers_job_goes_elsewhere_and_its_late_end_is_refused(
    fleet: Fleet,
) -> None:
    await fleet.scheduler()
    frozen = await fleet.worker()
    run = await fleet.client.handler()(fleet_app.stubborn).submit_async(2.0)
    await delivered(fleet, run.job_id, 1, 10)
    await begun(fleet, run.job_id)
    other = await fleet.worker()
    frozen_s = fleet.disturb(frozen).freeze()

    again = await delivered(fleet, run.job_id, 2, AFTER_WORKER_SPLIT_S + 5)
    assert again.job is not None
    assert fleet.by_node(again.job.node_id or "") is other
    waited_s = again.at_ms / 1000 - frozen_s
    # The lease was renewed last at most a heartbeat before the freeze.
    assert JOB_LEASE_S - 6 < waited_s < AFTER_WORKER_SPLIT_S

    frozen.thaw()
    await until(lambda: "was refused" in frozen.tail(), timeout_s=15, what="its end is refused")
    end = await ended(fleet, run.job_id)
    assert end.job is not None
    assert end.type == "job_completed"
    assert (end.job.delivery, end.job.crashes) == (2, 1)
    await judge(fleet)


async def test_a_worker_asked_to_end_hands_its_jobs_back_and_spends_no_attempt(
    fleet: Fleet,
) -> None:
    await fleet.scheduler()
    leaving = await fleet.worker(shutdown_timeout_s=3.0)
    quick = fleet.client.handler()(fleet_app.stubborn)
    looking = fleet.client.handler(max_crashes=1)(fleet_app.hold)
    finishes = await quick.submit_async(1.5)
    outlasts = await quick.submit_async(5.0)
    looks = [await looking.submit_async(4.0) for _ in range(4)]  # type: ignore[call-arg]
    for run in (finishes, outlasts, *looks):
        await begun(fleet, run.job_id)
    await fleet.worker()

    fleet.disturb(leaving).terminate()
    assert await leaving.ended() == 0, leaving.tail()
    for run, deliveries in ((finishes, 1), (outlasts, 2), *((run, 2) for run in looks)):
        end = await ended(fleet, run.job_id)
        assert end.job is not None
        assert end.type == "job_completed"
        assert (end.job.delivery, end.job.attempt, end.job.crashes) == (deliveries, 1, 0)
    evidence = await judge(fleet)
    assert not evidence.of("job_lost")


async def test_pinned_jobs_of_a_process_that_ends_are_cancelled(fleet: Fleet) -> None:
    await fleet.scheduler()
    application = await fleet.joined(fleet.launch("application", "--pin"))
    start = await fleet.tape.first(
        lambda event: event.type == "job_started", timeout_s=10, what="the pinned job starts"
    )
    assert start.job is not None
    await begun(fleet, start.job.id)
    application.terminate()
    assert await application.ended() == 0, application.tail()
    end = await ended(fleet, start.job.id, 5)
    assert end.type == "job_cancelled"
    evidence = await judge(fleet)
    assert not evidence.state.tasks, "a pinned task outlived its process"


async def test_a_job_that_kills_its_workers_is_dead_lettered_and_its_neighbours_run(
    fleet: Fleet,
) -> None:
    await fleet.scheduler()
    await fleet.worker()
    poison = await fleet.client.handler(max_crashes=2)(fleet_app.die).submit_async()
    neighbours = [
        await fleet.client.handler(max_crashes=5)(fleet_app.stubborn).submit_async(0.2)
        for _ in range(10)
    ]
    for crash in (1, 2):
        start = await delivered(fleet, poison.job_id, crash, 20)
        assert start.job is not None
        victim = fleet.disturb(fleet.by_node(start.job.node_id or ""))
        victim.may_end_with.add(9)
        assert await victim.ended() == 9
        fleet.launch("worker")
    dead = await fleet.tape.first(
        lambda event: event.type == "job_dead", timeout_s=20, what="the dead letter"
    )
    assert dead.job is not None
    assert dead.job.id == poison.job_id
    assert dead.job.crashes == 2
    ends = await asyncio.gather(*(ended(fleet, run.job_id) for run in neighbours))
    assert {end.type for end in ends} == {"job_completed"}
    evidence = await judge(fleet)
    begins = [line for line in evidence.ledger if line.job == poison.job_id]
    assert len(begins) == 2
    assert poison.job_id in evidence.state.dead
