"""The invariants that every run is judged by, one function each.

Each takes the evidence of a run and returns what breaks it, one line a case. Those of a run that
has come to rest (`at_rest`) need it to be paused and drained first. 18 (subscribers) is judged by
`subscribers.py`, 19 (flatness) by `test_soak.py`; 17 (limits) has nothing to judge until a task
can be given a limit; 20 (lost messages change no outcome) is what all others say of a run in which
connections were cut.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from quiv_dist.core.wire import Envelope, JobWire
from tests.chaos.evidence import Evidence
from tests.chaos.schedule import spans, step_ms

# From a leader's death to the next one's first dispatch, whatever it died of: lease + 1 s.
LEADERLESS_MARGIN_MS = 1_000
# A killed worker's jobs are taken back within this.
RECLAIM_MS = 5_000

FINAL = ("job_completed", "job_failed", "job_cancelled")
GRID = ("task_added", "task_paused", "task_resumed", "task_removed", "task_ended")

Judge = Callable[[Evidence], Iterable[str]]


class Invariant(NamedTuple):
    number: int
    text: str
    at_rest: bool
    judge: Judge


INVARIANTS: list[Invariant] = []


def invariant(number: int, text: str, *, at_rest: bool = False) -> Callable[[Judge], Judge]:
    """Enter a function into the list, under its number and in its words."""

    def enter(judge: Judge) -> Judge:
        INVARIANTS.append(Invariant(number, text, at_rest, judge))
        return judge

    return enter


def violations(evidence: Evidence, *, at_rest: bool = True) -> list[str]:
    """Return everything that breaks an invariant, each line beginning with its number."""
    found = []
    for number, text, needs_rest, judge in INVARIANTS:
        if needs_rest and not at_rest:
            continue
        cases = list(judge(evidence))
        if cases:
            found.append(f"{number}. {text}")
            found += [f"    {case}" for case in cases[:10]]
            if len(cases) > 10:
                found.append(f"    ... and {len(cases) - 10} more")
    return found


def _job(event: Envelope) -> JobWire:
    assert event.job is not None
    return event.job


# Identity and ticks -------------------------------------------------------------------------------


@invariant(1, "at most one job id per (task, incarnation, run kind and key, attempt)")
def one_job_an_attempt(evidence: Evidence) -> Iterable[str]:
    incarnations = _incarnations(evidence)
    ids: dict[tuple[object, ...], set[str]] = defaultdict(set)
    for event in evidence.of("job_scheduled"):
        job = _job(event)
        key = job.run_id if job.run_kind != "tick" else job.scheduled_for_ms
        incarnation = incarnations.get((job.task_id, event.id), "")
        ids[job.task_id, incarnation, job.run_kind, key, job.attempt].add(job.id)
    for what, found in ids.items():
        if len(found) > 1:
            yield f"{what}: jobs {sorted(found)}"


def _incarnations(evidence: Evidence) -> dict[tuple[str, str], str]:
    """Return which incarnation of its task each scheduling of a job belongs to."""
    return {
        (event.job.task_id, event.id): event.task.incarnation
        for event in evidence.of("job_scheduled")
        if event.job is not None and event.task is not None
    }


def _tick_jobs(evidence: Evidence) -> dict[str, Counter[int]]:
    """Return by task how many different jobs each nominal time became."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for event in evidence.of("job_scheduled"):
        job = _job(event)
        if job.run_kind == "tick" and job.attempt == 1 and job.scheduled_for_ms is not None:
            found[job.task_id][job.id] = job.scheduled_for_ms
    return {task_id: Counter(jobs.values()) for task_id, jobs in found.items()}


def _due_ticks(evidence: Evidence, task_id: str, changes: list[Envelope]) -> list[int]:
    stored = evidence.state.tasks.get(task_id)
    pending = stored and stored.fields["state"] == "active" and stored.fields["due"]
    grids = spans(changes, evidence.state.at_ms, int(pending) if pending else None)
    return [tick for grid in grids for tick in grid.ticks()]


def _on_a_grid(evidence: Evidence) -> dict[str, list[Envelope]]:
    return {
        task_id: changes
        for task_id, changes in evidence.by_task(*GRID).items()
        if changes[0].task is not None and step_ms(changes[0].task)
    }


@invariant(2, "every due tick of an unpaused task is covered by exactly one recorded outcome")
def each_tick_one_outcome(evidence: Evidence) -> Iterable[str]:
    for task_id, changes in _on_a_grid(evidence).items():
        stored = evidence.state.tasks.get(task_id)
        if stored is None or not stored.journal:
            continue
        due = [
            tick
            for tick in _due_ticks(evidence, task_id, changes)
            if tick >= stored.journal[0].first_ms
        ]
        yield from (f"{task_id}: {what}" for what in _uncovered(due, stored.journal))


def _uncovered(due: list[int], journal: Iterable[tuple[str, int, int, int]]) -> Iterable[str]:
    """Lay the journal's entries on the ticks that were due; each tick must be met once."""
    position = 0
    for outcome, first, last, count in journal:
        here = due[position : position + count]
        if len(here) != count or not here or here[0] != first or here[-1] != last:
            expected = due[position] if position < len(due) else None
            yield (
                f"{outcome} {first}..{last} ({count}), where the next tick due is {expected} and"
                f" the grid has {sum(first <= tick <= last for tick in due)} there"
            )
            while position < len(due) and due[position] <= last:
                position += 1
        else:
            position += count
    if position < len(due):
        yield f"{len(due) - position} ticks from {due[position]} on have no outcome"


@invariant(2, "a tick recorded as enqueued is one job, and a job's tick is recorded as enqueued")
def enqueued_is_a_job(evidence: Evidence) -> Iterable[str]:
    jobs = _tick_jobs(evidence)
    for task_id, changes in _on_a_grid(evidence).items():
        stored = evidence.state.tasks.get(task_id)
        if stored is None or not stored.journal:
            continue
        begin = stored.journal[0].first_ms
        made = Counter({at: n for at, n in jobs.get(task_id, {}).items() if at >= begin})
        spans_enqueued = [entry for entry in stored.journal if entry.outcome == "enqueued"]
        said = Counter(
            tick
            for tick in _due_ticks(evidence, task_id, changes)
            if any(entry.first_ms <= tick <= entry.last_ms for entry in spans_enqueued)
        )
        if made != said:
            yield f"{task_id}: jobs without record {made - said}, records without job {said - made}"


@invariant(3, "no tick within misfire_grace is lost")
def none_missed(evidence: Evidence) -> Iterable[str]:
    for event in evidence.of("tick_missed"):
        yield f"{event.tick}"
    for task in evidence.state.tasks.values():
        for entry in task.journal:
            if entry.outcome == "missed":
                yield f"{task.id}: {entry}"
            if entry.outcome == "coalesced" and task.trigger.kind == "cron":
                yield f"{task.id}: a cron's ticks within the grace are not coalesced: {entry}"


# Leadership ---------------------------------------------------------------------------------------


@invariant(4, "epochs strictly increase, and one term ends before the next begins")
def epochs_increase(evidence: Evidence) -> Iterable[str]:
    newest, leading = 0, 0
    for event in evidence.of("leader_elected", "leader_lost"):
        epoch = event.epoch or 0
        if event.type == "leader_lost":
            if epoch != leading:
                yield f"{event.id}: epoch {epoch} was lost while {leading} led"
            leading = 0
            continue
        if epoch <= newest:
            yield f"{event.id}: epoch {epoch} after {newest}"
        if leading:
            yield f"{event.id}: epoch {epoch} began while {leading} led"
        newest = leading = epoch


@invariant(5, "a namespace with a live candidate is never leaderless, nor a task overdue, too long")
def never_overdue(evidence: Evidence) -> Iterable[str]:
    budget = evidence.lease_ms + LEADERLESS_MARGIN_MS
    seen: set[str] = set()
    for event in evidence.of("job_scheduled"):
        job = _job(event)
        if job.run_kind != "tick" or job.scheduled_for_ms is None or job.id in seen:
            continue
        seen.add(job.id)
        if job.attempt != 1:
            continue
        late = event.at_ms - job.scheduled_for_ms
        late -= evidence.allowance_ms(job.scheduled_for_ms, event.at_ms)
        if late > budget:
            yield f"{job.task_name} tick {job.scheduled_for_ms} was dispatched {late} ms late"
    for task_id, changes in _on_a_grid(evidence).items():
        stored = evidence.state.tasks.get(task_id)
        pending = int(stored.fields["due"]) if stored and stored.fields["due"] else None
        for grid in spans(changes, evidence.state.at_ms, pending):
            late = grid.overdue_ms
            late -= evidence.allowance_ms(grid.until_ms, grid.until_ms + max(late, 0))
            if late > budget:
                yield f"{task_id}: a tick had been due for {late} ms when its schedule stopped"


@invariant(6, "last_nominal never decreases")
def ticks_go_forward(evidence: Evidence) -> Iterable[str]:
    newest: dict[tuple[str, str], int] = {}
    seen: set[str] = set()
    for event in evidence.of("job_scheduled"):
        job = _job(event)
        if job.run_kind != "tick" or job.scheduled_for_ms is None or job.id in seen:
            continue
        seen.add(job.id)
        if job.attempt != 1:
            continue
        assert event.task is not None
        key = (job.task_id, event.task.incarnation)
        if job.scheduled_for_ms <= newest.get(key, 0):
            yield f"{job.task_name}: {job.scheduled_for_ms} after {newest[key]}"
        newest[key] = max(job.scheduled_for_ms, newest.get(key, 0))


@invariant(6, "no task is active with neither due time nor live run")
def always_armed(evidence: Evidence) -> Iterable[str]:
    for task in evidence.state.tasks.values():
        if task.fields["state"] == "active" and not task.fields["due"] and not task.live:
            yield f"{task.id}"


@invariant(9, "skip never has more than one live run")
def one_live_run(evidence: Evidence) -> Iterable[str]:
    live: dict[str, set[str]] = defaultdict(set)
    retried = {_job(event).id for event in evidence.of("job_retrying")}
    for event in evidence.of("job_scheduled", "task_removed", *FINAL):
        if event.type == "task_removed":
            assert event.task is not None
            live.pop(event.task.id, None)
            continue
        job = _job(event)
        if job.run_kind == "submit":
            continue
        if event.type == "job_scheduled":
            live[job.task_id].add(job.run_id)
            if len(live[job.task_id]) > 1:
                yield f"{job.task_name}: runs {sorted(live[job.task_id])} at {event.id}"
        elif not (event.type == "job_failed" and job.id in retried):
            live[job.task_id].discard(job.run_id)


@invariant(10, "paused tasks fire nothing")
def paused_is_quiet(evidence: Evidence) -> Iterable[str]:
    paused: set[str] = set()
    seen: set[str] = set()
    for event in evidence.of("job_scheduled", *GRID):
        assert event.task is not None
        if event.type == "task_paused":
            paused.add(event.task.id)
        elif event.type != "job_scheduled":
            paused.discard(event.task.id)
        else:
            job = _job(event)
            # A job put back into its stream was scheduled before.
            if job.task_id in paused and job.run_kind == "tick" and job.id not in seen:
                yield f"{job.task_name}: {job.id} at {event.id}"
            seen.add(job.id)


@invariant(11, "each armed task has exactly one pending due time, the one in its record")
def one_due_time(evidence: Evidence) -> Iterable[str]:
    for task in evidence.state.tasks.values():
        stored = task.fields["due"]
        scored = evidence.state.due.get(f"t:{task.id}")
        if (int(stored) if stored else None) != scored:
            yield f"{task.id}: record {stored!r}, due set {scored}"
    for member in evidence.state.due:
        if member.startswith("t:") and member[2:] not in evidence.state.tasks:
            yield f"{member} has no task"


# Jobs ---------------------------------------------------------------------------------------------


@invariant(12, "every accepted run reaches exactly one final outcome", at_rest=True)
def one_final_outcome(evidence: Evidence) -> Iterable[str]:
    retried = {_job(event).id for event in evidence.of("job_retrying")}
    finals: Counter[str] = Counter()
    for event in evidence.of(*FINAL):
        job = _job(event)
        if not (event.type == "job_failed" and job.id in retried):
            finals[job.run_id] += 1
    accepted = evidence.accepted | set(evidence.by_run("job_scheduled"))
    for run_id in accepted | set(finals):
        if finals[run_id] != 1:
            yield f"run {run_id} has {finals[run_id]} final outcomes"


@invariant(13, "after quiescence nothing is left in streams, leases and live sets", at_rest=True)
def nothing_left(evidence: Evidence) -> Iterable[str]:
    state = evidence.state
    for stream, (entries, pending) in state.streams.items():
        if entries or pending:
            yield f"stream {stream}: {entries} entries, {pending} pending"
    for node, leases in state.leases.items():
        yield f"node {node} still has leases on {sorted(leases)}"
    for task in state.tasks.values():
        if task.live:
            yield f"task {task.id} has live runs {task.live}"
    for member in state.due:
        if member.startswith("r:"):
            yield f"{member} is due"
    if state.parked:
        yield f"parked: {state.parked}"
    if state.malformed:
        yield f"{state.malformed} malformed entries"


@invariant(13, "after quiescence job records and their indexes agree", at_rest=True)
def records_and_indexes_agree(evidence: Evidence) -> Iterable[str]:
    state = evidence.state
    for job_id, status in state.jobs.items():
        if status not in {"completed", "failed", "cancelled"}:
            yield f"job {job_id} is {status}"
        if job_id not in state.job_index:
            yield f"job {job_id} is in no index"
        if job_id not in state.ended | state.dead:
            yield f"job {job_id} will never be forgotten"
    for job_id in state.job_index - set(state.jobs):
        yield f"job {job_id} is indexed and has no record"


@invariant(14, "only the current (entry, node, delivery) can finish a job")
def only_the_holder_finishes(evidence: Evidence) -> Iterable[str]:
    holders: dict[str, tuple[str | None, int]] = {}
    for event in evidence.of("job_started", "job_lost", *FINAL):
        job = _job(event)
        if event.type == "job_started":
            _, before = holders.get(job.id, (None, 0))
            if job.delivery <= before:
                yield f"{job.id}: delivery {job.delivery} began after {before}"
            holders[job.id] = (job.node_id, job.delivery)
        elif event.type == "job_completed" and holders.get(job.id) != (job.node_id, job.delivery):
            yield f"{job.id}: {job.node_id}/{job.delivery} finished what {holders.get(job.id)} held"


@invariant(15, "a live worker that renews is never reclaimed")
def only_the_disturbed_lose_jobs(evidence: Evidence) -> Iterable[str]:
    for event in evidence.of("job_lost"):
        job = _job(event)
        pid = evidence.pids.get(job.node_id or "", 0)
        if pid not in evidence.disturbed:
            yield f"{job.id} (delivery {job.delivery}) was taken from live process {pid}"


@invariant(16, "a job that kills its worker is dead-lettered after max_crashes")
def crashes_are_bounded(evidence: Evidence) -> Iterable[str]:
    for job_id, lost in evidence.by_job("job_lost").items():
        assert lost[0].task is not None
        most = lost[0].task.max_crashes
        if len(lost) > most:
            yield f"{job_id} was lost {len(lost)} times, max_crashes is {most}"
    for event in evidence.of("job_dead"):
        assert event.task is not None
        job = _job(event)
        if job.crashes > event.task.max_crashes:
            yield f"{job.id} is dead after {job.crashes} crashes"


# The ledger ---------------------------------------------------------------------------------------


@invariant(12, "a handler starts at most once a delivery, in the process that claimed it")
def a_start_a_delivery(evidence: Evidence) -> Iterable[str]:
    claimed: Counter[tuple[str, int]] = Counter()
    for event in evidence.of("job_started"):
        job = _job(event)
        claimed[job.id, evidence.pids.get(job.node_id or "", 0)] += 1
    began = Counter((line.job, line.pid) for line in evidence.ledger if line.what == "start")
    for (job_id, pid), count in began.items():
        if count > claimed[job_id, pid]:
            yield f"{job_id}: began {count} times in {pid}, claimed {claimed[job_id, pid]} times"


@invariant(12, "what is recorded as completed ran to its end")
def completed_ran(evidence: Evidence) -> Iterable[str]:
    ended = {(line.job, line.pid) for line in evidence.ledger if line.what == "end"}
    for event in evidence.of("job_completed"):
        job = _job(event)
        if (job.id, evidence.pids.get(job.node_id or "", 0)) not in ended:
            yield f"{job.id} is completed by {job.node_id} and did not run to its end there"


@invariant(2, "a tick that nothing disturbed ran exactly once")
def undisturbed_ran_once(evidence: Evidence) -> Iterable[str]:
    began = Counter(line.job for line in evidence.ledger if line.what == "start")
    deliveries = Counter(_job(event).id for event in evidence.of("job_started"))
    for event in evidence.of("job_completed"):
        job = _job(event)
        if deliveries[job.id] == 1 and began[job.id] != 1:
            yield f"{job.id} was delivered once and began {began[job.id]} times"
