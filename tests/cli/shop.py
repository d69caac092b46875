"""The application that command tests run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quiv_dist import Quiv


def note(path: str, text: str) -> None:
    """Add a line to a file."""
    with Path(path).open("a") as file:
        file.write(f"{text}\n")


def chain(path: str, left: int) -> None:
    """Enqueue itself so many times, as its last act."""
    note(path, str(left))
    if left:
        submit_chain(path, left - 1)


def submit_chain(path: str, left: int) -> None:
    chained.submit(path, left)


def hold(fifo: str) -> None:
    """Run until something is written into a FIFO; the stop event is not looked at."""
    Path(fifo).read_bytes()


def wait_for_stop(stop_event: Any = None) -> None:
    """Run until asked to stop."""
    stop_event.wait()


quiv = Quiv(handlers=[note, hold, wait_for_stop])
chained = quiv.handler()(chain)


@quiv.task(cron="0 4 * * *", queue="reports")
def nightly() -> None:
    """Declared, and never due while a test runs."""
