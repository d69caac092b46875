"""The states of a job and the moves between them.

``scheduled`` waits in a stream, a parked set or the due set; ``running`` is leased to a node.
The scripts enforce these moves; the tests walk this table against them.
"""

from __future__ import annotations

from typing import NamedTuple

from quiv_dist.models import Event, JobStatus

S, R = JobStatus.SCHEDULED, JobStatus.RUNNING
COMPLETED, FAILED, CANCELLED = JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED

FINAL = frozenset({COMPLETED, FAILED, CANCELLED})


class Move(NamedTuple):
    """One move: why it happens, and the events that say so, in order."""

    source: JobStatus | None
    cause: str
    target: JobStatus
    events: tuple[Event, ...]


MOVES: tuple[Move, ...] = (
    Move(None, "enqueued", S, (Event.JOB_SCHEDULED,)),
    Move(S, "claimed", R, (Event.JOB_STARTED,)),
    Move(S, "cancelled", CANCELLED, (Event.JOB_CANCELLED,)),
    Move(S, "unserved", FAILED, (Event.JOB_FAILED,)),
    Move(R, "returned", COMPLETED, (Event.JOB_COMPLETED,)),
    Move(R, "raised", FAILED, (Event.JOB_FAILED,)),
    Move(R, "raised, attempts left", FAILED, (Event.JOB_FAILED, Event.JOB_RETRYING)),
    Move(R, "stopped", CANCELLED, (Event.JOB_CANCELLED,)),
    Move(R, "handed back", S, (Event.JOB_SCHEDULED,)),
    Move(R, "worker died", S, (Event.JOB_LOST, Event.JOB_SCHEDULED)),
    Move(R, "worker died too often", FAILED, (Event.JOB_LOST, Event.JOB_FAILED, Event.JOB_DEAD)),
)


def is_final(status: str) -> bool:
    """Tell whether a job of this status has ended."""
    return status in FINAL
