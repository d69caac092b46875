"""Handlers that every test process can import, and gates to hold them at."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from typing import Any

from quiv_dist import JobCancelledError

LIMIT_S = 20.0

_gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)
_started: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(0))
calls: list[Any] = []
reasons: dict[str, Any] = {}


def reset() -> None:
    _gates.clear()
    _started.clear()
    calls.clear()
    reasons.clear()


def open_gate(name: str) -> None:
    _gates[name].set()


def open_all() -> None:
    for gate in list(_gates.values()):
        gate.set()


def has_started(name: str) -> bool:
    """Wait for the next start of the job that was given this name."""
    return _started[name].acquire(timeout=LIMIT_S)


def note(*args: Any, **kwargs: Any) -> None:
    calls.append((args, {key: kwargs[key] for key in kwargs if key not in INJECTED}))


INJECTED = frozenset({"job_id", "stop_event", "progress_hook"})


def nothing() -> None:
    """Do nothing, as well as possible."""


def fail(text: str = "no") -> None:
    raise ValueError(text)


def held(name: str = "held") -> str:
    """Wait at a gate, deaf to the stop event."""
    _started[name].release()
    _gates[name].wait(LIMIT_S)
    return name


def polite(stop_event: threading.Event, name: str = "polite") -> None:
    """Wait to be stopped, and note why."""
    _started[name].release()
    if stop_event.wait(LIMIT_S):
        reasons[name] = getattr(stop_event, "reason", None)


def raising(stop_event: threading.Event, name: str = "raising") -> None:
    """Wait to be stopped, and raise what quiv's own tools raise then."""
    polite(stop_event, name)
    raise JobCancelledError(name)


async def polite_async(stop_event: threading.Event, name: str = "polite") -> None:
    _started[name].release()
    while not stop_event.is_set():  # noqa: ASYNC110 - its stop event is a thread's
        await asyncio.sleep(0.005)
    reasons[name] = getattr(stop_event, "reason", None)


def fail_times(name: str, times: int) -> None:
    """Fail so many times, then succeed."""
    calls.append(name)
    if calls.count(name) <= times:
        msg = f"failure {calls.count(name)}"
        raise ValueError(msg)


def report(*values: Any, progress_hook: Any) -> None:
    for value in values:
        progress_hook(value)


def report_fields(progress_hook: Any) -> None:
    progress_hook(1, 2, step="half", done=0.5)


def report_unencodable(progress_hook: Any) -> None:
    progress_hook(step=object())


def ids(job_id: str) -> None:
    calls.append(job_id)


def all_three(**kwargs: Any) -> None:
    calls.append(sorted(kwargs))
