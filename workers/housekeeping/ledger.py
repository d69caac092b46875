"""A record of handler starts and ends that does not depend on Redis.

Each line is one JSON object, appended with a single write, so that a process killed at any
instant leaves whole lines only. A start without an end is a handler whose process died.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

LEDGER_VARIABLE = "HOUSEKEEPING_LEDGER"


@cache
def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _append(path: str, line: dict[str, str | int]) -> None:
    line["at_ms"] = time.time_ns() // 1_000_000
    line["pid"] = os.getpid()
    os.write(_opened(path), json.dumps(line).encode() + b"\n")


@contextmanager
def recorded(handler: str, job_id: str) -> Iterator[None]:
    """Record the start and the end of a handler, where ``HOUSEKEEPING_LEDGER`` names a file."""
    path = os.environ.get(LEDGER_VARIABLE)
    if not path:
        yield
        return
    _append(path, {"phase": "start", "handler": handler, "job_id": job_id})
    phase = "failed"
    try:
        yield
        phase = "end"
    finally:
        _append(path, {"phase": phase, "handler": handler, "job_id": job_id})
