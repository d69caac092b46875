"""The only reader of time.

Durations and trust windows are monotonic. Due decisions are the server's: the clock learns the
offset between its monotonic clock and the server's time from replies, and never reads the
machine's wall clock for a decision.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

STEP_MS = 2_000


class ServerClock:
    """Server time, estimated between replies from the monotonic clock."""

    def __init__(self) -> None:
        # Between these the offset of the server's clock to our monotonic one must be, ms.
        self._least_ms = float("-inf")
        self._most_ms = float("inf")

    def observe(self, server_ms: int, sent_s: float) -> float:
        """Learn from a reply; return by how many ms the server's clock moved against ours.

        The server read its clock some time between ``sent_s``, when the request was begun, and
        now. So a reply that was long on its way tells little, and is no step of a clock; one
        that contradicts what was known is.

        A step beyond ``STEP_MS`` is a fault of the server's clock: callers report it.
        """
        least_ms = server_ms - monotonic_s() * 1000
        most_ms = server_ms + 1 - sent_s * 1000
        if least_ms > self._most_ms:
            moved = least_ms - self._most_ms
        elif most_ms < self._least_ms:
            moved = most_ms - self._least_ms
        else:
            self._least_ms = max(self._least_ms, least_ms)
            self._most_ms = min(self._most_ms, most_ms)
            return 0.0
        self._least_ms, self._most_ms = least_ms, most_ms
        return moved

    def now_ms(self) -> int:
        """Return the estimated server time, or the machine's before any reply.

        Never ahead of the server, so that what is due here is due there.
        """
        if math.isinf(self._least_ms):
            return int(time.time() * 1000)
        return int(monotonic_s() * 1000 + self._least_ms)


def monotonic_s() -> float:
    """Return seconds of the monotonic clock."""
    return time.monotonic()


def utc_now() -> datetime:
    """Return the machine's time, for display and logs only."""
    return datetime.now(UTC)
