"""Ids that are derived, so that every process computes the same one.

A run's id comes from what makes it one run: namespace, kind, task, incarnation and key (the
nominal time of a tick, or a UUID its caller made before the first send). A job's id comes from
its run and attempt. Both carry their partition in the first two bytes and are UUIDs of version
8 (RFC 9562, section 5.8).
"""

from __future__ import annotations

import hashlib
from uuid import UUID, uuid4

_SEPARATOR = "\x1f"


def _derive(partition: int, *parts: str) -> str:
    digest = bytearray(hashlib.blake2b(_SEPARATOR.join(parts).encode(), digest_size=16).digest())
    digest[0:2] = partition.to_bytes(2, "big")
    digest[6] = (digest[6] & 0x0F) | 0x80
    digest[8] = (digest[8] & 0x3F) | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def run_id(
    partition: int, namespace: str, kind: str, task_id: str, incarnation: str, key: str
) -> str:
    """Return the id of a run."""
    return _derive(partition, namespace, kind, task_id, incarnation, key)


def job_id(run: str, attempt: int) -> str:
    """Return the id of a run's job, in the partition of the run."""
    return _derive(int(run[:4], 16), run, str(attempt))


def declared_task_id(namespace: str, name: str, handler: str, ordinal: int) -> str:
    """Return the id of the ``ordinal``-th task of this name and handler that an instance adds."""
    return _derive(0, namespace, "task", name, handler, str(ordinal))


def new_id() -> str:
    """Return a random id, for what is new each time."""
    return str(uuid4())


def partition_of_task(task_id: str, partitions: int) -> int:
    """Return the partition that holds a task."""
    if partitions == 1:
        return 0
    return int.from_bytes(hashlib.blake2b(task_id.encode(), digest_size=4).digest()) % partitions


def partition_of_job(job: str, partitions: int) -> int:
    """Return the partition that an id of a run or job names; 0 for a stranger's id."""
    try:
        found = int.from_bytes(UUID(job).bytes[:2])
    except ValueError:
        return 0
    return found if found < partitions else 0
