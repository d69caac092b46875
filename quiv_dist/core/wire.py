"""What travels as JSON: the records inside events, and how they become models.

One JSON object a message, readable in any language; times are integer milliseconds in fields
ending in ``_ms``. ``SCHEMA_VERSION`` is the stamp of everything stored in a namespace.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from quiv_dist.models import Event, EventGap, Job, Node, Task, Tick

SCHEMA_VERSION = 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The end of the calendar. A delay of centuries is added to the server's time by scripts.
_LAST_MS = 253_402_300_799_999


def to_datetime(ms: int) -> datetime:
    """Return the UTC datetime of ``ms`` since the epoch; what is past the calendar is its end."""
    return _EPOCH + timedelta(milliseconds=min(ms, _LAST_MS))


def to_ms(value: datetime) -> int:
    """Return milliseconds since the epoch; a naive datetime is UTC, as in quiv."""
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return (value - _EPOCH) // timedelta(milliseconds=1)


def _optional(ms: int | None) -> datetime | None:
    return None if ms is None else to_datetime(ms)


class TaskStatic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a task that only users' writes change. ``args`` and ``kwargs`` are raw JSON.

    Fields with the defaults of ``TaskWire`` are left out: an event carries this three times in
    the life of a job.
    """

    id: str
    task_name: str
    args: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    kwargs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    args_omitted: bool = False
    interval_seconds: float | None = None
    fixed_interval: bool = True
    run_once: bool = False
    timeout_seconds: float | None = None
    max_retries: int = 0
    retry_backoff_seconds: float = 30.0
    jitter_seconds: float = 0.0
    cron: str | None = None
    cron_timezone: str | None = None
    handler: str = ""
    queue: str = "default"
    priority: str = "normal"
    max_crashes: int = 3
    owner: str | None = None
    pinned_to: str | None = None

    def members(self) -> bytes:
        """Return the JSON members without the braces, for scripts to complete."""
        return msgspec.json.encode(self)[1:-1]


class TaskWire(msgspec.Struct, frozen=True, kw_only=True):
    """A task inside an event."""

    id: str
    task_name: str
    status: str
    next_run_at_ms: int
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    args_omitted: bool = False
    interval_seconds: float | None = None
    fixed_interval: bool = True
    run_once: bool = False
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

    def to_model(self, arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None) -> Task:
        """Return the task; ``arguments`` are the decoded ones, for readers that have them."""
        fields = msgspec.structs.asdict(self)
        next_run_at = to_datetime(fields.pop("next_run_at_ms"))
        if arguments is None:
            fields["args"] = tuple(self.args)
        else:
            fields["args"], fields["kwargs"] = arguments
            fields["args_omitted"] = False
        return Task(next_run_at=next_run_at, **fields)


class JobWire(msgspec.Struct, frozen=True, kw_only=True):
    """A job inside an event."""

    id: str
    run_id: str
    run_kind: str
    task_id: str
    task_name: str
    status: str
    attempt: int
    delivery: int
    crashes: int
    created_at_ms: int
    started_at_ms: int
    ended_at_ms: int | None = None
    scheduled_for_ms: int | None = None
    duration_seconds: float | None = None
    error_message: str | None = None
    node_id: str | None = None
    handler: str = ""
    queue: str = "default"
    priority: str = "normal"
    dead: bool = False

    def to_model(self) -> Job:
        """Return the job."""
        fields = msgspec.structs.asdict(self)
        created = fields.pop("created_at_ms")
        started = fields.pop("started_at_ms")
        ended = fields.pop("ended_at_ms")
        nominal = fields.pop("scheduled_for_ms")
        return Job(
            created_at=to_datetime(created),
            started_at=to_datetime(started),
            ended_at=_optional(ended),
            scheduled_for=_optional(nominal),
            **fields,
        )


class TickWire(msgspec.Struct, frozen=True, kw_only=True):
    """Ticks inside an event."""

    task_id: str
    outcome: str
    first_at_ms: int
    last_at_ms: int
    count: int
    reason: str | None = None

    def to_model(self) -> Tick:
        """Return the ticks."""
        return Tick(
            task_id=self.task_id,
            outcome=self.outcome,
            reason=self.reason,
            first_at=to_datetime(self.first_at_ms),
            last_at=to_datetime(self.last_at_ms),
            count=self.count,
        )


class NodeWire(msgspec.Struct, frozen=True, kw_only=True):
    """A node record, as its node writes it."""

    id: str
    roles: tuple[str, ...] = ()
    host: str = ""
    pid: int = 0
    app: str | None = None
    app_version: str | None = None
    version: str = ""
    started_at_ms: int | None = None
    queues: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ()

    def to_model(self, *, expires_at_ms: int | None = None, epoch: int | None = None) -> Node:
        """Return the node with what the store adds to its record."""
        fields = msgspec.structs.asdict(self)
        started = fields.pop("started_at_ms")
        return Node(
            started_at=_optional(started),
            expires_at=_optional(expires_at_ms),
            epoch=epoch,
            **fields,
        )


class Progress(msgspec.Struct, frozen=True):
    """The payload of one ``progress_hook`` call."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One event. ``prev`` is the id of the event of this kind before it, ``log`` the log's life."""

    id: str
    prev: str
    type: str
    at_ms: int
    partition: int
    log: str
    call: str = ""
    epoch: int | None = None
    task: TaskWire | None = None
    job: JobWire | None = None
    tick: TickWire | None = None
    node: NodeWire | None = None
    progress: Progress | None = None
    gap: EventGap | None = None

    @property
    def event(self) -> Event:
        """The kind as the enum."""
        return Event(self.type)

    def payload(self) -> tuple[Any, ...]:
        """Return what a listener receives after the event."""
        if self.gap is not None:
            return (self.gap,)
        if self.node is not None:
            return (self.node.to_model(epoch=self.epoch),)
        values: list[Any] = []
        if self.task is not None:
            values.append(self.task.to_model())
        if self.job is not None:
            values.append(self.job.to_model())
        if self.tick is not None:
            values.append(self.tick.to_model())
        return tuple(values)


_DECODER = msgspec.json.Decoder(Envelope)
_TASK = msgspec.json.Decoder(TaskWire)
_JOB = msgspec.json.Decoder(JobWire)
_NODE = msgspec.json.Decoder(NodeWire)

decode_envelope = _DECODER.decode
decode_task = _TASK.decode
decode_job = _JOB.decode
decode_node = _NODE.decode
