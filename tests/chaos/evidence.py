"""What a run is judged by: the event log, the stored state, and a ledger outside Redis."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from quiv_dist.core.triggers import Trigger
from quiv_dist.core.wire import Envelope
from quiv_dist.store.keys import Keys
from tests.chaos.raw import raw


class LedgerLine(NamedTuple):
    """What a handler noted: it started, was asked to stop and did, or came to its end."""

    job: str
    what: str
    pid: int
    at_s: float
    wall_s: float


class Outcome(NamedTuple):
    """One entry of a task's journal; times are nominal, ms."""

    outcome: str
    first_ms: int
    last_ms: int
    ticks: int


@dataclass
class StoredTask:
    id: str
    fields: dict[str, str]
    trigger: Trigger
    journal: list[Outcome]
    live: dict[str, str]


@dataclass
class State:
    """A partition as it is stored, read at one moment."""

    at_ms: int = 0
    tasks: dict[str, StoredTask] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)  # id to status
    due: dict[str, int] = field(default_factory=dict)
    job_index: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    streams: dict[str, tuple[int, int]] = field(default_factory=dict)  # entries, pending
    leases: dict[str, dict[str, int]] = field(default_factory=dict)
    parked: dict[str, int] = field(default_factory=dict)
    malformed: int = 0


@dataclass
class Evidence:
    """All of one run. Times of events are the server's, ms.

    `disturbed` are processes that were killed, frozen or cut off; `outages_ms` are times in which
    the server could not answer or nobody was able to lead; `accepted` are runs that a client was
    told are stored.
    """

    events: list[Envelope]
    state: State
    ledger: list[LedgerLine]
    pids: dict[str, int]
    lease_ms: int
    disturbed: set[int] = field(default_factory=set)
    outages_ms: list[tuple[int, int]] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)

    def of(self, *kinds: str) -> list[Envelope]:
        return [event for event in self.events if event.type in kinds]

    def by_task(self, *kinds: str) -> dict[str, list[Envelope]]:
        found: dict[str, list[Envelope]] = defaultdict(list)
        for event in self.of(*kinds):
            if event.task is not None:
                found[event.task.id].append(event)
        return found

    def by_job(self, *kinds: str) -> dict[str, list[Envelope]]:
        found: dict[str, list[Envelope]] = defaultdict(list)
        for event in self.of(*kinds):
            if event.job is not None:
                found[event.job.id].append(event)
        return found

    def by_run(self, *kinds: str) -> dict[str, list[Envelope]]:
        found: dict[str, list[Envelope]] = defaultdict(list)
        for event in self.of(*kinds):
            if event.job is not None:
                found[event.job.run_id].append(event)
        return found

    def allowance_ms(self, from_ms: int, to_ms: int) -> int:
        """Return how much of a span nobody could have acted in."""
        allowed, reached_ms = 0, from_ms
        for begin, end in sorted(self.outages_ms):
            begin_ms, end_ms = max(begin, reached_ms), min(end, to_ms)
            if end_ms > begin_ms:
                allowed += end_ms - begin_ms
                reached_ms = end_ms
        return allowed


def read_ledger(path: Path) -> list[LedgerLine]:
    return [LedgerLine(**json.loads(line)) for line in path.read_text().splitlines()]


async def read_state(url: str, namespace: str) -> State:
    """Read a partition with plain commands; nothing of the product is in between."""
    prefix = Keys(namespace).prefix
    async with raw(url) as client:
        seconds, micros = await client.time()
        state = State(at_ms=seconds * 1000 + micros // 1000)
        pattern = f"{prefix}*"
        names = {name.decode() async for name in client.scan_iter(match=pattern, count=1000)}
        for name in sorted(names):
            short = name.removeprefix(prefix)
            if short.startswith("job:"):
                state.jobs[short.removeprefix("job:")] = ""
            else:
                await _read_key(client, state, short, name)
        await _read_jobs(client, prefix, state)
        for task in state.tasks.values():
            await _read_task(client, prefix, task)
    return state


async def _read_jobs(client: Any, prefix: str, state: State) -> None:
    pipeline = client.pipeline(transaction=False)
    for job_id in state.jobs:
        pipeline.hget(f"{prefix}job:{job_id}", "status")
    for job_id, status in zip(state.jobs, await pipeline.execute(), strict=True):
        state.jobs[job_id] = status.decode() if status else ""


async def _read_key(client: Any, state: State, short: str, name: str) -> None:
    if short.startswith("task:"):
        task_id = short.removeprefix("task:")
        state.tasks[task_id] = StoredTask(task_id, {}, Trigger(kind="once"), [], {})
    elif short.startswith("q:"):
        groups = await client.xinfo_groups(name)
        state.streams[short] = (await client.xlen(name), sum(int(g["pending"]) for g in groups))
    elif short.startswith("leases:"):
        state.leases[short.removeprefix("leases:")] = await _scores(client, name)
    elif short.startswith("parked:"):
        state.parked[short.removeprefix("parked:")] = await client.llen(name)
    elif short == "due":
        state.due = await _scores(client, name)
    elif short == "malformed":
        state.malformed = await client.llen(name)
    elif short in {"jobs", "ended", "dead"}:
        members = set(await _scores(client, name))
        setattr(state, "job_index" if short == "jobs" else short, members)


async def _scores(client: Any, name: str) -> dict[str, int]:
    return {
        member.decode(): int(score)
        for member, score in await client.zrange(name, 0, -1, withscores=True)
    }


async def _read_task(client: Any, prefix: str, task: StoredTask) -> None:
    stored: dict[bytes, bytes] = await client.hgetall(f"{prefix}task:{task.id}")
    task.trigger = msgspec.msgpack.decode(stored[b"trigger"], type=Trigger)
    for name in (b"rev", b"inc", b"state", b"due", b"next", b"nominal", b"last", b"mode"):
        task.fields[name.decode()] = stored.get(name, b"").decode()
    older: list[Any] = await client.lrange(f"{prefix}journal:{task.id}", 0, -1)
    newest = stored.get(b"journal", b"")
    lines = [newest, *older] if newest else older
    for line in reversed(lines):
        outcome, first, last, count, _ = line.decode().split("|", 4)
        task.journal.append(Outcome(outcome, int(first), int(last), int(count)))
    live = await client.hgetall(f"{prefix}live:{task.id}")
    task.live = {run.decode(): job.decode() for run, job in live.items()}
