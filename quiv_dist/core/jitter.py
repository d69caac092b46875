"""Jitter: a delay that spreads tasks of the same schedule, without any randomness.

The delay is a function of the task and the nominal time, so every scheduler, a new
leader, and the Lua scripts (through ``redis.sha1hex``) compute the same one. 13 hex
digits are 52 bits, which a double holds exactly, so Python and Lua agree to the bit.
"""

from __future__ import annotations

from hashlib import sha1
from math import floor

_HEX_DIGITS = 13
_RANGE = 2.0**52


def jitter_ms(task_id: str, nominal_ms: int, bound_ms: int) -> int:
    """A delay of 0 to ``bound_ms - 1`` milliseconds, always the same for the same input.

    The formula is part of the stored format and may not change. A ``bound_ms`` of 0 or
    less means no jitter.
    """
    if bound_ms <= 0:
        return 0
    digest = sha1(f"{task_id}:{nominal_ms}".encode(), usedforsecurity=False).hexdigest()
    return floor(int(digest[:_HEX_DIGITS], 16) / _RANGE * bound_ms)
