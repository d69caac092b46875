"""Replies of the scripts as records."""

from __future__ import annotations

import msgspec

from quiv_dist.core.wire import NodeWire, TaskWire, decode_job, decode_node, decode_task
from quiv_dist.store.records import (
    Claimed,
    Due,
    JobRow,
    LeaseReply,
    NodeRow,
    TaskReply,
    TaskRow,
)


def text(value: bytes) -> str:
    """Return a reply's text."""
    return value.decode()


def _int(value: bytes) -> int:
    return int(value) if value else -1


def _task(value: bytes) -> TaskWire | None:
    return decode_task(value) if value else None


def task_reply(reply: list[bytes]) -> TaskReply:
    """Return what a write to a task says."""
    server_ms = int(reply[2]) if len(reply) > 2 else 0
    return TaskReply(text(reply[0]), _task(reply[1]), server_ms)


def task_row(row: list[bytes]) -> TaskRow:
    """Return a task."""
    return TaskRow(
        wire=decode_task(row[0]),
        args=row[1],
        revision=text(row[2]),
        due_ms=_int(row[3]),
        nominal_ms=_int(row[4]),
        last_ms=_int(row[5]),
        anchor_ms=_int(row[6]),
        trigger=row[7],
        fingerprint=text(row[8]),
        spec=row[9],
    )


def job_row(row: list[bytes]) -> JobRow:
    """Return a job."""
    return JobRow(decode_job(row[0]), row[1], row[2])


def lease_reply(reply: list[bytes]) -> LeaseReply:
    """Return the leader lease."""
    return LeaseReply(reply[0] == b"1", text(reply[1]), _int(reply[2]), int(reply[3]))


def due(item: list[bytes]) -> Due:
    """Return a member of the due set."""
    if len(item) == 2:
        return Due(text(item[0]), int(item[1]))
    return Due(
        member=text(item[0]),
        due_ms=_int(item[1]),
        revision=text(item[2]),
        nominal_ms=_int(item[3]),
        anchor_ms=_int(item[4]),
        trigger=item[5],
        incarnation=text(item[6]),
    )


# Task id, task name, run id, run kind, nominal, incarnation, attempt, created, handler, queue,
# priority, max_crashes: what of a job never changes, as the scripts pack it.
_core = msgspec.msgpack.Decoder(tuple[str, ...]).decode


def claimed(row: list[bytes]) -> Claimed:
    """Return a delivery."""
    job_id, entry, delivery, crashes, core, spec, args, snap = row
    task_id, name, run_id, kind, nominal, incarnation, attempt, created, *rest = _core(core)
    handler, queue, priority, max_crashes = rest
    return Claimed(
        job_id.decode(), entry.decode(), int(delivery), int(attempt), run_id, kind, task_id, name,
        handler, queue, priority, nominal, int(created), incarnation, int(crashes),
        int(max_crashes), spec, args, snap,
    )  # fmt: skip


def node_row(row: list[bytes]) -> NodeRow:
    """Return a node."""
    node_id = text(row[0])
    wire = decode_node(row[5]) if row[5] else NodeWire(id=node_id)
    return NodeRow(node_id, _int(row[1]), text(row[2]), _int(row[3]), _int(row[4]), wire)
