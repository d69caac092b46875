"""Retry maths: exponential backoff with a ceiling."""

from __future__ import annotations

from quiv_dist.core.jitter import jitter_ms


def retry_delay_ms(attempt: int, backoff_ms: int, backoff_max_ms: int) -> int:
    """The wait before a retry: ``backoff_ms`` doubled for each retry before this one.

    The ceiling is ``backoff_max_ms``, but never below ``backoff_ms``: a backoff that is
    set longer than the default ceiling means what it says.

    Args:
        attempt: 1 for the first retry.
        backoff_ms: the wait before the first retry, 0 or more.
        backoff_max_ms: the longest wait.

    Raises:
        ValueError: ``attempt`` is below 1.
    """
    if attempt < 1:
        raise ValueError(f"attempt={attempt} is not a retry; the first retry is 1")
    ceiling_ms = max(backoff_ms, backoff_max_ms)
    # Past this many doublings any backoff of 1 ms or more is over the ceiling.
    doublings = min(attempt - 1, ceiling_ms.bit_length())
    return min(backoff_ms << doublings, ceiling_ms)


def retry_jitter_ms(run_id: str, attempt: int, bound_ms: int) -> int:
    """What ``retry_jitter`` adds to the delay: 0 to ``bound_ms - 1`` ms, fixed by run and attempt.

    Runs that failed together (a dependency went down) then do not retry together.
    """
    return jitter_ms(run_id, attempt, bound_ms)
