"""Judge a run of the demonstration from outside: what was due, and what became of it.

What was due is computed here from each task's trigger, not asked of the scheduler: an
interval's grid from its first tick, a cron's times by croniter. A tick is covered when it became
a job, or when it came due while a run of its task was live (``overlap="skip"``), or when it is a
slot of an interval that passed while nobody dispatched anything and a newer slot took its place.
Anything else is lost.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from croniter import croniter

from quiv_dist import Event, Job, Task
from workers.demo.records import Entry, Heard

# A batch that was read just before a tick came due may be stored just after.
_BATCH_MS = 15
_ENDS = {Event.JOB_COMPLETED, Event.JOB_FAILED, Event.JOB_CANCELLED}


@dataclass(frozen=True)
class Gap:
    """Time without a leader, from the end of one to the first tick of the next."""

    cause: str
    from_ms: int
    to_ms: int | None

    @property
    def seconds(self) -> float | None:
        """How long, ``None`` if nobody led again."""
        return None if self.to_ms is None else (self.to_ms - self.from_ms) / 1000


@dataclass
class Run:
    """One run: its attempts, and when it was live, in ms."""

    first: Job
    live_from_ms: int
    live_until_ms: float = float("inf")
    completed: bool = False
    started: bool = False


@dataclass
class Report:
    """The figures of the table. Ticks are (task id, nominal ms)."""

    due: int = 0
    enqueued: int = 0
    run: int = 0
    skipped: int = 0
    coalesced: int = 0
    lost: list[tuple[str, int]] = field(default_factory=list)
    doubled: list[tuple[str, int]] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    unheard: int = 0
    unproved: list[str] = field(default_factory=list)
    failed_attempts: int = 0
    retries: int = 0
    failed_runs: int = 0
    starts: int = 0
    extra_starts: int = 0
    restarted: dict[str, str] = field(default_factory=dict)
    lateness_ms: list[int] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether every promise was kept, and the evidence for it is whole."""
        broken = (self.lost, self.doubled, self.unfinished, self.unheard, self.unproved)
        return self.due > 0 and not any(broken)

    def lateness(self, percent: int) -> float:
        """Return a percentile of the lateness, in ms."""
        if len(self.lateness_ms) < 2:
            return float(sum(self.lateness_ms))
        return statistics.quantiles(self.lateness_ms, n=100, method="inclusive")[percent - 1]


def audit(
    heard: Sequence[Heard], ledger: Sequence[Entry], ends: Iterable[tuple[str, int]] = ()
) -> Report:
    """Return what became of every tick.

    Args:
        heard: every event from before the first task was added to after the last was paused.
        ledger: the handlers' own record.
        ends: cause and time in ms of each end of a leader.

    """
    runs = _runs(heard)
    ticks: dict[tuple[str, int], set[str]] = defaultdict(set)
    for run in runs.values():
        job = run.first
        if job.run_kind == "tick" and job.scheduled_for is not None:
            ticks[job.task_id, _ms(job.scheduled_for)].add(job.id)
    report = Report(enqueued=len(ticks))
    report.doubled = sorted(tick for tick, jobs in ticks.items() if len(jobs) > 1)
    report.unheard = sum(item.event is Event.EVENTS_LOST for item in heard)
    firsts = [run.first for run in runs.values() if run.first.scheduled_for is not None]
    report.lateness_ms = sorted(
        _ms(job.created_at) - _ms(job.scheduled_for) for job in firsts if job.scheduled_for
    )
    report.run = sum(run.started for run in runs.values())
    report.unfinished = [run.first.id for run in runs.values() if run.live_until_ms == float("inf")]
    _cover(report, heard, runs, ticks)
    _attempts(report, heard, runs)
    _handlers(report, heard, ledger)
    report.gaps = [leaderless(cause, at_ms, heard) for cause, at_ms in ends]
    return report


def due_ticks(task: Task, until: datetime) -> Iterator[int]:
    """Yield a task's nominal times in ms, from its first one to before ``until``."""
    first = task.next_run_at
    if task.cron is not None:
        # From just before, since croniter gives what comes after.
        times = croniter(task.cron, first - timedelta(seconds=1), second_at_beginning=True)
        while (at := times.get_next(datetime).astimezone(UTC)) < until:
            yield _ms(at)
        return
    assert task.interval_seconds is not None
    period_ms = round(task.interval_seconds * 1000)
    yield from range(_ms(first), _ms(until), period_ms)


def _runs(heard: Sequence[Heard]) -> dict[str, Run]:
    """Return runs by id, with the time each was live."""
    runs: dict[str, Run] = {}
    for item in heard:
        job = item.job
        if job is None:
            continue
        if item.event is Event.JOB_SCHEDULED and job.run_id not in runs:
            runs[job.run_id] = Run(job, _ms(job.created_at))
        run = runs.get(job.run_id)
        if run is None:
            continue
        run.started |= item.event is Event.JOB_STARTED
        if item.event in _ENDS and job.ended_at is not None:
            run.live_until_ms = _ms(job.ended_at)
            run.completed = item.event is Event.JOB_COMPLETED
        elif item.event is Event.JOB_RETRYING:
            run.live_until_ms = float("inf")
    # The same tick under two run ids is a tick doubled, so the second is a run of its own; the
    # same run with two first jobs is one too.
    for item in heard:
        job = item.job
        if job is None or item.event is not Event.JOB_SCHEDULED or job.attempt != 1:
            continue
        if runs[job.run_id].first.id != job.id:
            runs[f"{job.run_id}/{job.id}"] = Run(job, _ms(job.created_at), 0.0)
    return runs


def _cover(
    report: Report,
    heard: Sequence[Heard],
    runs: dict[str, Run],
    ticks: dict[tuple[str, int], set[str]],
) -> None:
    first = {item.task.id: item.task for item in heard if _added(item) and item.task}
    # A paused task still tells its pending tick: everything before it must have an outcome.
    paused = {
        item.task.id: item.task.next_run_at
        for item in heard
        if item.event is Event.TASK_PAUSED and item.task
    }
    skips: dict[str, list[int]] = defaultdict(list)
    for item in heard:
        if item.event is Event.TICK_SKIPPED and item.tick is not None:
            skips[item.tick.task_id].append(_ms(item.tick.first_at))
    live: dict[str, list[Run]] = defaultdict(list)
    for run in runs.values():
        live[run.first.task_id].append(run)
    acted = sorted(_ms(run.first.created_at) for run in runs.values())
    for task_id, task in first.items():
        outcomes = sorted(nominal for known, nominal in ticks if known == task_id)
        for nominal in due_ticks(task, paused[task_id]):
            report.due += 1
            if (task_id, nominal) in ticks:
                continue
            if _was_live(live[task_id], skips[task_id], nominal):
                report.skipped += 1
            elif task.cron is None and _coalesced(nominal, outcomes, ticks, task_id, runs, acted):
                report.coalesced += 1
            else:
                report.lost.append((task.task_name, nominal))


def _added(item: Heard) -> bool:
    return item.event is Event.TASK_ADDED


def _was_live(runs: list[Run], skips: list[int], nominal: int) -> bool:
    """Tell whether a tick came due during a run that ticks were reported skipped for.

    Consecutive ticks skipped for the same reason are one event, with the first of them.
    """
    return any(
        run.live_from_ms <= nominal + _BATCH_MS
        and nominal <= run.live_until_ms
        and any(run.live_from_ms <= skip + _BATCH_MS and skip <= nominal for skip in skips)
        for run in runs
    )


def _coalesced(
    nominal: int,
    outcomes: list[int],
    ticks: dict[tuple[str, int], set[str]],
    task_id: str,
    runs: dict[str, Run],
    acted: list[int],
) -> bool:
    """Tell whether nothing was dispatched from a slot's time until a newer slot of it ran."""
    after = bisect_left(outcomes, nominal)
    if after == len(outcomes):
        return False
    job_ids = ticks[task_id, outcomes[after]]
    newer = min(_ms(run.first.created_at) for run in runs.values() if run.first.id in job_ids)
    first_act = acted[bisect_left(acted, nominal + _BATCH_MS)]
    return first_act >= newer - _BATCH_MS


def _attempts(report: Report, heard: Sequence[Heard], runs: dict[str, Run]) -> None:
    kinds = Counter(item.event for item in heard)
    report.failed_attempts = kinds[Event.JOB_FAILED]
    report.retries = kinds[Event.JOB_RETRYING]
    report.failed_runs = sum(
        not run.completed and run.live_until_ms != float("inf") for run in runs.values()
    )


def _handlers(report: Report, heard: Sequence[Heard], ledger: Sequence[Entry]) -> None:
    """Compare the handlers' own record with what the events say."""
    starts = Counter(entry.job_id for entry in ledger if entry.phase == "start")
    ended = {entry.job_id for entry in ledger if entry.phase == "end"}
    report.starts = starts.total()
    report.extra_starts = starts.total() - len(starts)
    lost = {item.job.id for item in heard if item.event is Event.JOB_LOST and item.job}
    report.restarted = {
        job_id: "its worker was killed" if job_id in lost else "its worker drained"
        for job_id, count in starts.items()
        if count > 1
    }
    report.unproved = [
        item.job.id
        for item in heard
        if item.event is Event.JOB_COMPLETED and item.job and item.job.id not in ended
    ]


def leaderless(cause: str, at_ms: int, heard: Sequence[Heard]) -> Gap:
    """Return the time from a leader's end to the first tick that the next one fired."""
    # An epoch is the server's time of its election, in ms.
    elected = [
        item.node.epoch
        for item in heard
        if item.event is Event.LEADER_ELECTED and item.node and item.node.epoch
    ]
    epoch = min((epoch for epoch in elected if epoch >= at_ms), default=None)
    if epoch is None:
        return Gap(cause, at_ms, None)
    fired = [
        _ms(item.job.created_at)
        for item in heard
        if item.event is Event.JOB_SCHEDULED and item.job and item.job.scheduled_for
    ]
    return Gap(cause, at_ms, min((at for at in fired if at >= epoch), default=None))


def _ms(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
