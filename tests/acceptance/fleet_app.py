"""The application that real fleets of tests run. Its handlers keep a ledger outside Redis.

A line is one `write` to a file opened with O_APPEND, so lines of many processes never mix, and a
process that is killed leaves whole lines only.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from functools import cache
from threading import Event

from quiv_dist import AsyncQuiv
from quiv_dist.context import current_job

LEDGER_VARIABLE = "FLEET_LEDGER"


@cache
def _ledger() -> int:
    return os.open(os.environ[LEDGER_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _note(what: str) -> None:
    job = current_job()
    assert job is not None
    # The monotonic clock is one for all processes of a machine; the wall clock may be skewed.
    line = {"job": job.job_id, "what": what, "pid": os.getpid(), "at_s": time.monotonic()}
    line["wall_s"] = time.time()
    os.write(_ledger(), json.dumps(line).encode() + b"\n")


def _sleep(seconds: float) -> None:
    # Not time.sleep: it wakes at an absolute time, which a skewed clock makes invalid.
    Event().wait(seconds)


async def tick() -> None:
    """A short job."""
    _note("start")
    await asyncio.sleep(0)
    _note("end")


def hold(seconds: float, stop_event: Event) -> None:
    """A job of some length that ends early when asked to."""
    _note("start")
    if stop_event.wait(seconds):
        _note("stopped")
        return
    _note("end")


def stubborn(seconds: float) -> None:
    """A job that cannot be asked to end."""
    _note("start")
    _sleep(seconds)
    _note("end")


def die() -> None:
    """A job that takes its worker with it."""
    _note("start")
    os._exit(9)


def fail_in(seconds: float) -> None:
    """A job that fails; its run is tried again."""
    _note("start")
    _sleep(seconds)
    _note("end")
    raise RuntimeError("fails every time")


quiv = AsyncQuiv(handlers=[tick, hold, stubborn, die, fail_in])
