"""Backoff: doubling, its ceiling, and arguments far outside of daily use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quiv_dist.core.retry import retry_delay_ms, retry_jitter_ms


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [(1, 30_000), (2, 60_000), (3, 120_000), (7, 1_920_000), (8, 3_600_000), (5000, 3_600_000)],
)
def test_the_default_backoff_doubles_up_to_an_hour(attempt: int, expected: int) -> None:
    assert retry_delay_ms(attempt, 30_000, 3_600_000) == expected


def test_a_ceiling_below_the_backoff_does_not_shorten_it() -> None:
    assert [retry_delay_ms(n, 7_200_000, 3_600_000) for n in (1, 2, 9)] == [7_200_000] * 3


def test_no_backoff_means_at_once_whatever_the_attempt() -> None:
    assert [retry_delay_ms(n, 0, 3_600_000) for n in (1, 2, 5000)] == [0, 0, 0]


@pytest.mark.parametrize("attempt", [0, -1])
def test_what_is_no_retry_is_refused(attempt: int) -> None:
    with pytest.raises(ValueError, match="first retry is 1"):
        retry_delay_ms(attempt, 1, 1)


@given(st.integers(1, 300), st.integers(0, 10**12), st.integers(0, 10**15))
def test_the_delay_is_the_clamped_power_of_two(attempt: int, backoff: int, ceiling: int) -> None:
    expected = min(backoff * 2 ** (attempt - 1), max(backoff, ceiling))
    assert retry_delay_ms(attempt, backoff, ceiling) == expected


def test_runs_that_fail_together_do_not_retry_together() -> None:
    delays = [retry_jitter_ms(f"run-{n}", 1, 10_000) for n in range(200)]
    assert len(set(delays)) > 150
    assert all(0 <= delay < 10_000 for delay in delays)
    assert delays != [retry_jitter_ms(f"run-{n}", 2, 10_000) for n in range(200)]
