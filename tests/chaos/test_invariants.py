"""The invariants see what breaks them: a sound run is falsified one way at a time."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec
import pytest

from quiv_dist.core.triggers import Trigger
from quiv_dist.core.wire import Envelope, JobWire, NodeWire, TaskWire
from tests.chaos.evidence import Evidence, LedgerLine, Outcome, State, StoredTask
from tests.chaos.invariants import violations

T0 = 1_000_000
TICKS = [T0, T0 + 1000, T0 + 2000, T0 + 3000]
PAUSED = T0 + 3500
NEXT = T0 + 4000
PID = 77


def task(next_ms: int, status: str = "active") -> TaskWire:
    return TaskWire(
        id="task", task_name="task", status=status, next_run_at_ms=next_ms, interval_seconds=1.0,
        incarnation="one",
    )  # fmt: skip


def job(tick: int, status: str, **changes: Any) -> JobWire:
    fields: dict[str, Any] = {
        "id": f"job-{tick}", "run_id": f"run-{tick}", "run_kind": "tick", "task_id": "task",
        "task_name": "task", "status": status, "attempt": 1, "delivery": 0, "crashes": 0,
        "created_at_ms": tick, "started_at_ms": tick, "scheduled_for_ms": tick, **changes,
    }  # fmt: skip
    return JobWire(**fields)


def event(kind: str, at_ms: int, **parts: Any) -> Envelope:
    return Envelope(
        id=f"{at_ms}-{kind}", prev="", type=kind, at_ms=at_ms, partition=0, log="log", **parts
    )


def elected(at_ms: int, epoch: int) -> Envelope:
    return event("leader_elected", at_ms, epoch=epoch, node=NodeWire(id="leader"))


def sound() -> Evidence:
    """A task that ticked four times, skipped one of them, and was paused."""
    events = [elected(T0 - 20, 5), event("task_added", T0 - 10, task=task(T0))]
    ledger = []
    for tick in TICKS:
        if tick == T0 + 2000:
            continue
        held = {"node_id": "node", "delivery": 1}
        after = task(tick + 1000)
        events += [
            event("job_scheduled", tick + 3, task=after, job=job(tick, "scheduled")),
            event("job_started", tick + 4, task=after, job=job(tick, "running", **held)),
            event("job_completed", tick + 9, task=after, job=job(tick, "completed", **held)),
        ]
        ledger += [
            LedgerLine(f"job-{tick}", what, PID, tick / 1000, 0) for what in ("start", "end")
        ]
    events.append(event("task_paused", PAUSED, task=task(NEXT, "paused")))
    journal = [
        Outcome("enqueued", T0, T0 + 1000, 2),
        Outcome("skipped", T0 + 2000, T0 + 2000, 1),
        Outcome("enqueued", T0 + 3000, T0 + 3000, 1),
    ]
    fields = {"state": "paused", "due": "", "last": str(T0 + 3000)}
    ended = {f"job-{tick}" for tick in TICKS if tick != T0 + 2000}
    trigger = Trigger(kind="interval", interval_ms=1000)
    state = State(
        at_ms=PAUSED + 1000,
        tasks={"task": StoredTask("task", fields, trigger, journal, {})},
        jobs=dict.fromkeys(ended, "completed"),
        job_index=set(ended),
        ended=set(ended),
        streams={"q:default:normal": (0, 0)},
    )
    return Evidence(events, state, ledger, {"node": PID}, lease_ms=5000, accepted={f"run-{T0}"})


def first(evidence: Evidence, kind: str) -> int:
    return next(i for i, found in enumerate(evidence.events) if found.type == kind)


def change(evidence: Evidence, kind: str, **changes: Any) -> None:
    """Change the first event of a kind; `job__x` changes its job, `task__x` its task."""
    number = first(evidence, kind)
    found = evidence.events[number]
    top: dict[str, Any] = {}
    for name, value in changes.items():
        part, _, attribute = name.partition("__")
        if attribute:
            inner = top.get(part, getattr(found, part))
            top[part] = msgspec.structs.replace(inner, **{attribute: value})
        else:
            top[part] = value
    evidence.events[number] = msgspec.structs.replace(found, **top)


def again(evidence: Evidence, kind: str, **changes: Any) -> None:
    """Repeat the first event of a kind, with changes."""
    number = first(evidence, kind)
    evidence.events.insert(number, evidence.events[number])
    if changes:
        change(evidence, kind, **changes)


def journal(evidence: Evidence) -> list[Outcome]:
    return evidence.state.tasks["task"].journal


def lost(evidence: Evidence, times: int = 1) -> None:
    """Take the first job from its worker."""
    taken = job(T0, "running", node_id="node")
    evidence.events += [event("job_lost", PAUSED, task=task(NEXT), job=taken)] * times


def recorded(evidence: Evidence, number: int, *entry: Any) -> None:
    """Change an entry of the journal."""
    journal(evidence)[number] = Outcome(*entry)


def active_for_ever(evidence: Evidence) -> None:
    evidence.state.tasks["task"].fields["state"] = "active"


BREAKS: dict[str, tuple[int, Callable[[Evidence], object]]] = {
    "a second job for a tick": (1, lambda e: again(e, "job_scheduled", job__id="other")),
    "a tick without an outcome": (2, lambda e: journal(e).pop(1)),
    "a tick covered twice": (2, lambda e: journal(e).insert(1, journal(e)[1])),
    "a tick that was not due": (2, lambda e: journal(e).append(Outcome("enqueued", NEXT, NEXT, 1))),
    "a count that is wrong": (2, lambda e: recorded(e, 0, "enqueued", T0, T0 + 1000, 3)),
    "the newest ticks forgotten": (2, lambda e: journal(e).pop()),
    "a record without its job": (2, lambda e: e.events.pop(first(e, "job_scheduled"))),
    "a job that ran twice": (2, lambda e: e.ledger.append(e.ledger[0])),
    "a missed tick": (3, lambda e: recorded(e, 1, "missed", T0 + 2000, T0 + 2000, 1)),
    "an epoch used again": (4, lambda e: e.events.append(elected(PAUSED, 5))),
    "two leaders": (4, lambda e: e.events.append(elected(PAUSED, 6))),
    "a late dispatch": (5, lambda e: change(e, "job_scheduled", at_ms=T0 + 7000)),
    "a schedule that stood still": (5, lambda e: change(e, "task_paused", at_ms=NEXT + 7000)),
    "ticks out of order": (6, lambda e: e.events.append(e.events.pop(first(e, "job_scheduled")))),
    "a task that stopped for good": (6, active_for_ever),
    "two live runs": (9, lambda e: e.events.pop(first(e, "job_completed"))),
    "a paused task that fires": (10, lambda e: e.events.insert(2, e.events.pop())),
    "two due times": (11, lambda e: e.state.due.update({"t:task": NEXT})),
    "a run without an end": (12, lambda e: e.events.pop(first(e, "job_completed"))),
    "a run with two ends": (12, lambda e: again(e, "job_completed")),
    "an accepted run that vanished": (12, lambda e: e.accepted.add("run-of-somebody")),
    "a start that nobody claimed": (12, lambda e: e.ledger.append(e.ledger[0]._replace(pid=78))),
    "completed without running": (12, lambda e: e.ledger.pop(1)),
    "an entry left over": (13, lambda e: e.state.streams.update({"q:default:normal": (1, 0)})),
    "a lease left over": (13, lambda e: e.state.leases.update({"node": {"job": 1}})),
    "a record that is kept for ever": (13, lambda e: e.state.ended.clear()),
    "a job that still runs": (13, lambda e: e.state.jobs.update({f"job-{T0}": "running"})),
    "an end by somebody else": (14, lambda e: change(e, "job_completed", job__node_id="other")),
    "a delivery number used twice": (14, lambda e: again(e, "job_started")),
    "a live worker robbed": (15, lost),
    "too many crashes": (16, lambda e: lost(e, 4)),
}


def test_a_sound_run_breaks_nothing() -> None:
    assert violations(sound()) == []


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_run_is_seen_under_its_number(name: str) -> None:
    number, break_it = BREAKS[name]
    evidence = deepcopy(sound())
    break_it(evidence)
    found = violations(evidence)
    assert any(line.startswith(f"{number}. ") for line in found), found


def test_an_outage_excuses_its_own_length_only() -> None:
    evidence = sound()
    change(evidence, "job_scheduled", at_ms=T0 + 7000)
    evidence.outages_ms = [(T0 + 100, T0 + 700), (T0 + 300, T0 + 1000)]
    assert any(line.startswith("5. ") for line in violations(evidence))
    evidence.outages_ms = [(T0 + 100, T0 + 700), (T0 + 300, T0 + 1200)]
    assert not any(line.startswith("5. ") for line in violations(evidence))
