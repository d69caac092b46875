"""What users see: tasks, jobs, ticks, nodes, events and statistics.

All values are immutable snapshots. Times are timezone-aware UTC datetimes, durations are
seconds and say so in their names. Field names, defaults and the string values of the enums
are those of quiv 1.4.0, with the distributed fields added after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal, Self

import msgspec


class Event(str, Enum):
    """Kinds of event. The value is the name on the wire.

    ``TASK_*`` listeners receive ``(event, task)``, ``JOB_*`` ``(event, task, job)``,
    ``TICK_*`` ``(event, task, tick)``, ``LEADER_*`` and ``NODE_*`` ``(event, node)``, and
    ``EVENTS_LOST`` ``(event, gap)``.
    """

    TASK_ADDED = "task_added"
    TASK_REMOVED = "task_removed"
    TASK_PAUSED = "task_paused"
    TASK_RESUMED = "task_resumed"
    TASK_UPDATED = "task_updated"
    TASK_ENDED = "task_ended"
    JOB_SCHEDULED = "job_scheduled"
    JOB_STARTED = "job_started"
    JOB_COMPLETED = "job_completed"
    JOB_FAILED = "job_failed"
    JOB_CANCELLED = "job_cancelled"
    JOB_RETRYING = "job_retrying"
    JOB_LOST = "job_lost"
    JOB_DEAD = "job_dead"
    JOB_PROGRESS = "job_progress"
    TICK_SKIPPED = "tick_skipped"
    TICK_MISSED = "tick_missed"
    LEADER_ELECTED = "leader_elected"
    LEADER_LOST = "leader_lost"
    NODE_JOINED = "node_joined"
    NODE_LEFT = "node_left"
    EVENTS_LOST = "events_lost"


class TaskStatus(str, Enum):
    """``running`` while a job of the task is scheduled or running; not while a retry waits."""

    ACTIVE = "active"
    RUNNING = "running"
    PAUSED = "paused"


class JobStatus(str, Enum):
    """States of a job; the table of moves between them is ``core.jobs.MOVES``."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class TickOutcome(str, Enum):
    """What became of a due tick. Every due tick has exactly one outcome."""

    ENQUEUED = "enqueued"
    SKIPPED = "skipped"
    COALESCED = "coalesced"
    MISSED = "missed"


class StopReason(str, Enum):
    """Why a handler's stop event was set."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    REPLACE = "replace"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"


RunKind = Literal["tick", "now", "backfill", "submit"]


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A read-only record that also answers the pydantic names quiv's models had."""

    def model_dump(self) -> dict[str, Any]:
        """Return the fields as a dict of plain Python values."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    def model_dump_json(self) -> str:
        """Return the fields as JSON text; datetimes are ISO 8601 in UTC."""
        return msgspec.json.encode(self, enc_hook=repr).decode()

    def model_copy(self, *, update: dict[str, Any] | None = None) -> Self:
        """Return a copy, with ``update`` replacing fields of these names."""
        return msgspec.structs.replace(self, **(update or {}))


class Task(_Snapshot, frozen=True, kw_only=True):
    """A scheduling definition: what to run, when, with which arguments and policies.

    ``next_run_at`` of a task with no pending tick is the time of its last one. ``incarnation``
    is made with the record and survives updates; ``revision`` counts users' writes.
    """

    id: str
    task_name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    interval_seconds: float | None = None
    fixed_interval: bool = True
    run_once: bool = False
    status: str = TaskStatus.ACTIVE.value
    next_run_at: datetime
    timeout_seconds: float | None = None
    max_retries: int = 0
    retry_backoff_seconds: float = 30.0
    retry_attempt: int = 0
    jitter_seconds: float = 0.0
    cron: str | None = None
    cron_timezone: str | None = None
    handler: str = ""
    queue: str = "default"
    priority: str = "normal"
    max_crashes: int = 3
    owner: str | None = None
    pinned_to: str | None = None
    pause_reason: str | None = None
    revision: int = 0
    incarnation: str = ""
    args_omitted: bool = False


class Job(_Snapshot, frozen=True, kw_only=True):
    """One attempt of a run.

    ``started_at`` is the creation time until a worker has claimed the job, then the start of
    the newest delivery. ``delivery`` counts hand-overs to workers; above 1 an earlier worker
    died or gave the job back. ``scheduled_for`` is the nominal time of a tick.
    """

    id: str
    task_id: str
    task_name: str
    status: str = JobStatus.SCHEDULED.value
    started_at: datetime
    ended_at: datetime | None = None
    duration_seconds: float | None = None
    error_message: str | None = None
    attempt: int = 1
    run_id: str = ""
    run_kind: str = "tick"
    delivery: int = 0
    crashes: int = 0
    node_id: str | None = None
    handler: str = ""
    queue: str = "default"
    priority: str = "normal"
    created_at: datetime
    scheduled_for: datetime | None = None
    dead: bool = False


class Tick(_Snapshot, frozen=True, kw_only=True):
    """One nominal fire time of a task, or ``count`` consecutive ones with the same outcome."""

    task_id: str
    outcome: str
    reason: str | None = None
    first_at: datetime
    last_at: datetime
    count: int = 1


class Node(_Snapshot, frozen=True, kw_only=True):
    """One incarnation of a process: a scheduler, a worker, or an application."""

    id: str
    roles: tuple[str, ...] = ()
    host: str = ""
    pid: int = 0
    app: str | None = None
    app_version: str | None = None
    version: str = ""
    started_at: datetime | None = None
    expires_at: datetime | None = None
    epoch: int | None = None
    queues: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ()


class EventGap(_Snapshot, frozen=True, kw_only=True):
    """Events this subscriber can no longer read: the log was trimmed past them.

    ``from_id`` is the last id that was read (``None``: the log itself was lost), ``to_id`` the
    oldest id the log still has.
    """

    from_id: str | None
    to_id: str | None


@dataclass(frozen=True)
class QuivStats:
    """A point-in-time snapshot.

    ``active_jobs``, ``pool_size``, ``pool_utilization`` (0.0 to 1.0) and ``loop_alive`` are of
    this instance; the other figures are of the whole namespace.
    """

    active_jobs: int
    pool_size: int
    pool_utilization: float
    tasks_by_status: dict[str, int]
    next_run_at: datetime | None
    job_history_count: int
    loop_alive: bool = False
