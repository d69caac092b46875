"""Handlers of the tests of this folder."""

from __future__ import annotations

import threading


def double(number: int) -> int:
    return 2 * number


def fail() -> None:
    raise ValueError("on purpose")


def wait_for_stop(stop_event: threading.Event) -> None:
    stop_event.wait(20)
