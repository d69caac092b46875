"""Values for the typed calls of the store, each with the least that a test has to say."""

from __future__ import annotations

from typing import Any

import msgspec

from quiv_dist.core import ids
from quiv_dist.store.records import (
    Claimed,
    Definition,
    Due,
    Finish,
    Fire,
    NextTick,
    Submission,
    TaskRow,
)
from tests.store.state import World

# The virtual clock begins here.
T0 = 1_800_000_000_000
NORMAL = [("default", "high"), ("default", "normal"), ("default", "low")]


def definition(**changes: Any) -> Definition:
    """An interval task of one second, changed as told."""
    fields: dict[str, Any] = {
        "name": "Tidy",
        "handler": "app:tidy",
        "queue": "default",
        "priority": "normal",
        "trigger": b"every second",
        "mode": "fixed",
        "every_ms": 1000,
        "jitter_ms": 0,
        "static": b'"id":"T","task_name":"Tidy","args":[],"kwargs":{}',
        "spec": b"spec",
        "args": b"args",
        "max_crashes": 3,
    }
    fields |= changes
    fields.setdefault("fingerprint", repr(sorted(changes.items())))
    return Definition(**fields)


def tick(ms: int) -> NextTick:
    return NextTick(ms, ms, ms)


async def put(
    world: World, task_id: str = "T", first_ms: int | None = None, call: str = "", **changes: Any
) -> None:
    """Create a task that is due at `first_ms`, one second from now unless told."""
    at = world.now + 1000 if first_ms is None else first_ms
    static = b'"id":"%b","task_name":"Tidy","args":[],"kwargs":{}' % task_id.encode()
    changes.setdefault("static", static)
    reply = await world.partition.put_task(
        task_id, definition(**changes), tick(at),
        if_exists="error", read=None, incarnation=f"inc-{task_id}", call=call,
    )  # fmt: skip
    assert reply.word == "CREATED"


async def read(world: World, task_id: str = "T") -> TaskRow:
    row = (await world.partition.read_tasks([task_id]))[0]
    assert row is not None
    return row


async def lead(world: World, node: str = "L") -> str:
    """Make a node the leader; return the holder."""
    reply = await world.partition.elect(node, lease_ms=5000)
    assert reply.held
    return reply.holder


async def node(world: World, node_id: str = "W", handlers: tuple[str, ...] = ("app:tidy",)) -> None:
    """Register a worker of the default queue."""
    await world.partition.register_node(
        node_id, msgspec.json.encode({"id": node_id}), worker=True, queues=["default"],
        handlers=handlers,
    )  # fmt: skip


def fire_of(item: Due, *, next_ms: int | None = -1, nominal_ms: int | None = None) -> Fire:
    """The firing of what a look-ahead read: its tick, and a second later the next."""
    if item.member.startswith("r:"):
        return Fire(item.member, item.due_ms)
    at = item.nominal_ms if nominal_ms is None else nominal_ms
    after = at + 1000 if next_ms == -1 else next_ms
    run = ids.run_id(0, "ns", "tick", item.member[2:], item.incarnation, str(at))
    return Fire(
        item.member, item.due_ms, item.revision, at, run, ids.job_id(run, 1), at, after, after
    )


async def due(world: World) -> list[Due]:
    return (await world.partition.peek_due(ahead_ms=0, most=200))[1]


async def fire(world: World, holder: str, **next_: Any) -> list[str]:
    """Fire all that is due now."""
    return await world.partition.fire(holder, [fire_of(x, **next_) for x in await due(world)])


async def claim(world: World, node_id: str = "W", slots: int = 10) -> list[Claimed]:
    _, jobs = await world.partition.claim(node_id, slots=slots, streams=NORMAL)
    return jobs


def end(job: Claimed, outcome: Any = "completed", **more: Any) -> Finish:
    return Finish(job.job_id, job.entry, job.delivery, outcome, 1.5, **more)


def submission(number: int = 1, **changes: Any) -> Submission:
    """The submission of that number: run `run-N`, job `job-N`."""
    run = f"run-{number}"
    snap = b'{"id":"%b","task_name":"once","status":"running","next_run_at_ms":1}' % run.encode()
    item = Submission(
        f"job-{number}", run, "once", "app:tidy", "default", "normal", b"spec", b"args", 3, snap
    )
    return item._replace(**changes)


async def submitted(world: World, *numbers: int, **changes: Any) -> None:
    items = [submission(number, **changes) for number in numbers]
    assert all(await world.partition.submit(items, call=""))


async def running(world: World, node_id: str = "W", number: int = 1, **changes: Any) -> Claimed:
    """A submission that a node runs."""
    await node(world, node_id)
    await submitted(world, number, **changes)
    (job,) = await claim(world, node_id)
    return job
