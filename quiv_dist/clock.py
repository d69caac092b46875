"""The only reader of time.

Durations and trust windows are monotonic. Due decisions are the server's: the clock learns the
offset between its monotonic clock and the server's time from replies, and never reads the
machine's wall clock for a decision.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

STEP_MS = 2_000


class ServerClock:
    """Server time, estimated between replies from the monotonic clock."""

    def __init__(self) -> None:
        self._offset_ms: float | None = None

    def observe(self, server_ms: int) -> float:
        """Learn from a reply; return by how many ms the server's clock moved against ours.

        A step beyond ``STEP_MS`` is a fault of the server's clock: callers report it.
        """
        offset = server_ms - monotonic_s() * 1000
        moved = 0.0 if self._offset_ms is None else offset - self._offset_ms
        self._offset_ms = offset
        return moved

    def now_ms(self) -> int:
        """Return the estimated server time, or the machine's before any reply."""
        if self._offset_ms is None:
            return int(time.time() * 1000)
        return int(monotonic_s() * 1000 + self._offset_ms)


def monotonic_s() -> float:
    """Return seconds of the monotonic clock."""
    return time.monotonic()


def utc_now() -> datetime:
    """Return the machine's time, for display and logs only."""
    return datetime.now(UTC)
