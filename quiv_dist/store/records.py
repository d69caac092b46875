"""What the store hands out and takes in, in domain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from quiv_dist.core.wire import JobWire, NodeWire, TaskWire
from quiv_dist.exceptions import QuivError


class UnregisteredError(QuivError):
    """The store has no record of this node, or not any more: it must register first."""


class TaskRow(NamedTuple):
    """A stored task with what a computation of its next tick needs. Times are ms; -1: none."""

    wire: TaskWire
    args: bytes
    revision: str
    due_ms: int
    nominal_ms: int
    last_ms: int
    anchor_ms: int
    trigger: bytes
    fingerprint: str
    spec: bytes


class JobRow(NamedTuple):
    """A stored job, its result and its newest progress (empty: none)."""

    wire: JobWire
    result: bytes
    progress: bytes


@dataclass(frozen=True)
class Definition:
    """Everything about a task that users write. ``static`` is JSON members for events."""

    name: str
    handler: str
    queue: str
    priority: str
    trigger: bytes
    mode: Literal["fixed", "after", "cron", "once"]
    every_ms: int
    jitter_ms: int
    static: bytes
    spec: bytes
    args: bytes
    max_crashes: int
    pinned: str = ""
    fingerprint: str = ""

    def pairs(self) -> list[object]:
        """Return field names and values in the words of the scripts."""
        return [
            "name", self.name, "handler", self.handler, "queue", self.queue,
            "prio", self.priority, "trigger", self.trigger, "mode", self.mode,
            "every", self.every_ms, "jitter", self.jitter_ms, "snap", self.static,
            "spec", self.spec, "args", self.args, "maxc", self.max_crashes,
            "pinned", self.pinned,
        ]  # fmt: skip


class NextTick(NamedTuple):
    """A pending tick in ms; ``None`` means the server's time."""

    nominal_ms: int | None
    due_ms: int | None
    anchor_ms: int | None


NOW = NextTick(None, None, None)

PutReply = Literal["CREATED", "REPLACED", "SAME", "KEPT", "EXISTS", "STALE"]


class TaskReply(NamedTuple):
    """What a write to a task says: its word, the task after it, the server's time."""

    word: str
    task: TaskWire | None
    server_ms: int


class Due(NamedTuple):
    """One member of the due set, as the dispatcher's look-ahead reads it."""

    member: str
    due_ms: int
    revision: str = ""
    nominal_ms: int = 0
    anchor_ms: int = 0
    trigger: bytes = b""
    incarnation: str = ""


@dataclass(slots=True)
class Fire:
    """One compare-and-set of a due member: what to enqueue, and what comes next."""

    member: str
    due_ms: int
    revision: str = ""
    fire_ms: int | None = None
    run_id: str = ""
    job_id: str = ""
    newest_ms: int = 0
    next_nominal_ms: int | None = None
    next_due_ms: int | None = None
    passed: tuple[str, int, int, int] | None = None


class Claimed(NamedTuple):
    """One delivery of a job to this node."""

    job_id: str
    entry: str
    delivery: int
    attempt: int
    run_id: str
    run_kind: str
    task_id: str
    task_name: str
    handler: str
    queue: str
    priority: str
    nominal: str
    created_ms: int
    incarnation: str
    crashes: int
    max_crashes: int
    spec: bytes
    args: bytes
    snap: bytes


class Delivered(NamedTuple):
    """A stream entry that a blocking read handed to this node."""

    queue: str
    priority: str
    entry: str


@dataclass(slots=True)
class Finish:
    """The end of one delivery. ``retry`` is the next job's id and its delay in ms."""

    job_id: str
    entry: str
    delivery: int
    outcome: Literal["completed", "failed", "cancelled", "handback"]
    duration_ms: float
    error: str = ""
    retry: tuple[str, int] | None = None
    result: bytes = b""


class Submission(NamedTuple):
    """One run of a handler that belongs to no stored task. ``snap`` is its whole task JSON."""

    job_id: str
    run_id: str
    name: str
    handler: str
    queue: str
    priority: str
    spec: bytes
    args: bytes
    max_crashes: int
    snap: bytes


class LeaseReply(NamedTuple):
    """The leader lease after a call. ``held``: it is the caller's."""

    held: bool
    holder: str
    until_ms: int
    server_ms: int


class RenewReply(NamedTuple):
    """A heartbeat's answer: jobs that are this node's no more, and stops that were asked for."""

    server_ms: int
    incarnation: str
    known: bool
    lost: list[str]
    stops: dict[str, str]


class LogEntry(NamedTuple):
    """One event of the log, as the bytes that were published."""

    id: str
    kind: str
    prev: str
    data: bytes


class Malformed(NamedTuple):
    """A stream entry that named no job: where it was, when it was found, what it held."""

    stream: str
    entry: str
    at_ms: int
    fields: list[bytes]


class NodeRow(NamedTuple):
    """A node as the janitor judges it. Times in ms of the server's clock; -1: none."""

    node_id: str
    lease_end_ms: int
    renewed: str
    jobs: int
    first_job_lease_end_ms: int
    wire: NodeWire
