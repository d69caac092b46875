"""Jitter: its formula is shared with Lua and part of what is stored, so it is pinned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quiv_dist.core.jitter import jitter_ms


@pytest.mark.parametrize(
    ("task_id", "nominal_ms", "bound_ms", "expected"),
    [
        # By hand: printf '%s' a:0 | sha1sum, first 13 hex digits, / 2^52, * bound, floor.
        ("a", 0, 1_000, 836),
        ("0195f6a0-5d2c-7c1e-8f00-000000000001", 1_790_000_000_000, 30_000, 4_716),
        ("größe", 1, 2**31, 118_212_588),
    ],
)
def test_the_formula_is_fixed(task_id: str, nominal_ms: int, bound_ms: int, expected: int) -> None:
    assert jitter_ms(task_id, nominal_ms, bound_ms) == expected


@given(st.text(max_size=12), st.integers(0, 2**53), st.integers(1, 2**52))
def test_jitter_is_within_its_bound(task_id: str, nominal_ms: int, bound_ms: int) -> None:
    assert 0 <= jitter_ms(task_id, nominal_ms, bound_ms) < bound_ms


@pytest.mark.parametrize("bound_ms", [0, -1])
def test_no_bound_is_no_jitter(bound_ms: int) -> None:
    assert jitter_ms("a", 0, bound_ms) == 0


def test_jitter_spreads_evenly() -> None:
    quarters = [0, 0, 0, 0]
    for n in range(4_000):
        quarters[jitter_ms(f"task-{n}", 1_790_000_000_000, 1_000) // 250] += 1
    assert all(850 < count < 1_150 for count in quarters)
