from __future__ import annotations

from tests.store.build import T0, end, node, running, submission, submitted
from tests.store.state import World


async def test_a_submission_is_stored_and_queued(world: World) -> None:
    done = await world.act(world.partition.submit([submission(1)], call="c"))

    assert done.result == [True]
    snap = submission(1).snap.decode()
    assert done.changes == {
        **{
            f"job:job-1.{name}": (None, value)
            for name, value in {
                "status": "scheduled", "entry": "e1", "snap": snap, "spec": "spec", "args": "args",
                "task": "run-1", "name": "once", "run": "run-1", "kind": "submit", "nominal": "",
                "inc": "", "attempt": "1", "created": str(T0), "handler": "app:tidy",
                "queue": "default", "prio": "normal", "maxc": "3",
            }.items()
        },
        "jobs[job-1]": (None, T0),
        "q:default:normal": (None, "stream"),
        "q:default:normal[e1]": (None, {"j": "job-1"}),
    }  # fmt: skip
    (event,) = done.events
    assert (event.type, event.call) == ("job_scheduled", "c")
    job = event.job
    assert job is not None
    assert (job.id, job.run_id, job.task_id, job.status) == ("job-1", "run-1", "run-1", "scheduled")
    assert (job.created_at_ms, job.started_at_ms, job.delivery) == (T0, T0, 0)


async def test_one_that_is_there_is_left_as_it_is(world: World) -> None:
    await submitted(world, 1)
    done = await world.act(world.partition.submit([submission(1), submission(2)], call=""))
    assert done.result == [False, True]
    assert done.touched() == {"job:job-2", "jobs", "q:default:normal"}
    again = world.partition.submit([submission(1), submission(2)], call="")
    assert await world.nothing(again) == [False, False]


async def test_one_that_has_ended_is_not_run_again(world: World) -> None:
    job = await running(world)
    await world.partition.finish("W", [end(job)])
    assert await world.nothing(world.partition.submit([submission(1)], call="")) == [False]


async def test_many_go_in_several_calls(world: World) -> None:
    items = [submission(number) for number in range(450)]
    assert await world.partition.submit(items, call="") == [True] * 450
    assert await world.reads.job_count() == 450
    await node(world)


async def test_each_priority_has_its_stream(world: World) -> None:
    items = [
        submission(n, priority=priority, queue=queue)
        for n, (queue, priority) in enumerate([("a", "high"), ("b", "low")])
    ]
    await world.partition.submit(items, call="")
    state = await world.dump()
    queued = {name.split("[")[0]: value for name, value in state.items() if name.endswith("]")}
    assert queued["q:a:high"] == {"j": "job-0"}
    assert queued["q:b:low"] == {"j": "job-1"}
