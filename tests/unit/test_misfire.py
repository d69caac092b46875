"""Misfire policy: each row of its table, then conservation of ticks under any wake-ups."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quiv_dist.core.misfire import (
    CATCH_UP_FULL,
    CATCH_UP_NONE,
    MAX_CATCH_UP,
    SLOT_COALESCED,
    TICK_COALESCED,
    WINDOW_EXCEEDED,
    MisfirePolicy,
    Passed,
    TickPlan,
    plan_tick,
)
from quiv_dist.core.triggers import (
    LATEST_MS,
    Trigger,
    cron_trigger,
    due_of,
    interval_trigger,
    next_nominal,
    once_trigger,
)

CatchUp = Literal["latest", "all", "none"]

TASK = "task"
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
T0 = int(datetime(2026, 5, 4, 0, 0, tzinfo=UTC).timestamp()) * SECOND
HOURLY = cron_trigger("0 * * * *", timezone="UTC", jitter_s=0)
MINUTELY = cron_trigger("* * * * *", timezone="UTC", jitter_s=0)
EVERY_TEN_S = cron_trigger("*/10 * * * * *", timezone="UTC", jitter_s=0)
EVERY_MINUTE = interval_trigger(60, fixed=True, jitter_s=0)


def plan(
    trigger: Trigger, late_ms: int, policy: MisfirePolicy | None = None, nominal_ms: int = T0
) -> TickPlan:
    """The plan for a tick at ``nominal_ms`` that is noticed ``late_ms`` after."""
    due_ms = due_of(trigger, TASK, nominal_ms)
    now_ms = nominal_ms + late_ms
    return plan_tick(trigger, policy or MisfirePolicy(), TASK, nominal_ms, due_ms, T0, now_ms)


# --- the table ---------------------------------------------------------------


@pytest.mark.parametrize("trigger", [once_trigger(), interval_trigger(5, fixed=False, jitter_s=0)])
@pytest.mark.parametrize("late_ms", [0, MINUTE, 400 * DAY])
@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_a_single_pending_run_fires_however_late(
    trigger: Trigger, late_ms: int, catch_up: CatchUp
) -> None:
    expected = TickPlan(None, T0, T0, None, None)
    assert plan(trigger, late_ms, MisfirePolicy(catch_up=catch_up)) == expected


@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
@pytest.mark.parametrize("late_ms", [0, 1, 59_999, 60_000])
def test_a_cron_tick_within_its_grace_fires_as_it_is(catch_up: CatchUp, late_ms: int) -> None:
    following = T0 + 10 * SECOND  # overdue as well from 10 s on: the next plan's business
    assert plan(EVERY_TEN_S, late_ms, MisfirePolicy(catch_up=catch_up)) == TickPlan(
        None, T0, T0, following, following
    )


@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_interval_slots_within_the_grace_coalesce_to_the_newest(catch_up: CatchUp) -> None:
    trigger = interval_trigger(10, fixed=True, jitter_s=0)
    at = plan(trigger, 35 * SECOND, MisfirePolicy(catch_up=catch_up))
    assert at.passed == Passed("coalesced", T0, T0 + 20 * SECOND, 3, SLOT_COALESCED)
    assert (at.fire_ms, at.last_ms) == (T0 + 30 * SECOND, T0 + 30 * SECOND)
    assert at.next_nominal_ms == T0 + 40 * SECOND


def test_latest_fires_the_newest_missed_tick_once() -> None:
    at = plan(HOURLY, 5 * HOUR + 30 * MINUTE)
    assert at.passed == Passed("coalesced", T0, T0 + 4 * HOUR, 5, TICK_COALESCED)
    assert (at.fire_ms, at.last_ms, at.next_nominal_ms) == (
        T0 + 5 * HOUR,
        T0 + 5 * HOUR,
        T0 + 6 * HOUR,
    )


def test_latest_gives_up_no_tick_that_is_within_its_grace() -> None:
    # A failover of 75 s: only the ticks of the first 15 s are beyond the grace.
    at = plan(EVERY_TEN_S, 75 * SECOND)
    assert at.passed == Passed("coalesced", T0, T0 + 10 * SECOND, 2, TICK_COALESCED)
    assert at.fire_ms == T0 + 20 * SECOND
    assert at.next_nominal_ms == T0 + 30 * SECOND


def test_latest_makes_up_nothing_older_than_the_window() -> None:
    daily = cron_trigger("0 0 * * *", timezone="UTC", jitter_s=0)
    at = plan(daily, 3 * DAY + 5 * HOUR, MisfirePolicy(catch_up_window_ms=4 * HOUR))
    assert at.passed == Passed("missed", T0, T0 + 3 * DAY, 4, WINDOW_EXCEEDED)
    assert (at.fire_ms, at.last_ms) == (None, T0 + 3 * DAY)
    assert at.next_nominal_ms == T0 + 4 * DAY


def test_none_fires_only_what_is_within_its_grace() -> None:
    policy = MisfirePolicy(catch_up="none")
    at = plan(EVERY_TEN_S, 75 * SECOND, policy)
    assert at.passed == Passed("missed", T0, T0 + 10 * SECOND, 2, CATCH_UP_NONE)
    assert at.fire_ms == T0 + 20 * SECOND
    at = plan(HOURLY, 5 * HOUR + 30 * MINUTE, policy)
    assert at.passed == Passed("missed", T0, T0 + 5 * HOUR, 6, CATCH_UP_NONE)
    assert (at.fire_ms, at.next_nominal_ms) == (None, T0 + 6 * HOUR)


def test_all_fires_the_oldest_and_leaves_the_rest_to_the_next_plans() -> None:
    policy = MisfirePolicy(catch_up="all")
    now_ms, nominal_ms, fired = T0 + 5 * HOUR + 30 * MINUTE, T0, []
    while nominal_ms <= now_ms:
        at = plan_tick(HOURLY, policy, TASK, nominal_ms, nominal_ms, T0, now_ms)
        assert at.passed is None
        assert at.next_nominal_ms is not None
        fired.append(at.fire_ms)
        nominal_ms = at.next_nominal_ms
    assert fired == [T0 + n * HOUR for n in range(6)]


def test_all_makes_up_nothing_older_than_the_window() -> None:
    at = plan(HOURLY, 30 * HOUR + 1, MisfirePolicy(catch_up="all"))
    assert at.passed == Passed("missed", T0, T0 + 6 * HOUR, 7, WINDOW_EXCEEDED)
    assert at.fire_ms == T0 + 7 * HOUR
    at = plan(HOURLY, 30 * HOUR, MisfirePolicy(catch_up="all"))
    assert at.fire_ms == T0 + 6 * HOUR  # a tick exactly as old as the window is inside it


@pytest.mark.parametrize("catch_up", ["latest", "all"])
def test_a_pending_tick_exactly_as_old_as_the_window_is_made_up(catch_up: CatchUp) -> None:
    yearly = cron_trigger("0 0 4 5 *", timezone="UTC", jitter_s=0)
    policy = MisfirePolicy(catch_up=catch_up)
    assert plan(yearly, DAY, policy).fire_ms == T0
    assert plan(yearly, DAY + 1, policy).fire_ms is None


def test_a_pending_tick_is_as_old_as_its_stored_due_time_says() -> None:
    policy = MisfirePolicy(misfire_grace_ms=0, catch_up_window_ms=HOUR)
    daily = cron_trigger("0 0 * * *", timezone="UTC", jitter_s=0)
    due_ms = T0 + 5 * HOUR
    at = plan_tick(daily, policy, TASK, T0, due_ms, T0, due_ms + HOUR)
    assert at.fire_ms == T0


def test_all_with_nothing_inside_the_window_misses_everything() -> None:
    yearly = cron_trigger("@yearly", timezone="UTC", jitter_s=0)
    new_year = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * SECOND
    at = plan(yearly, 40 * DAY, MisfirePolicy(catch_up="all"), nominal_ms=new_year)
    assert at.passed == Passed("missed", new_year, new_year, 1, WINDOW_EXCEEDED)
    assert at.fire_ms is None


@pytest.mark.parametrize("trigger", [MINUTELY, EVERY_MINUTE])
def test_all_makes_up_at_most_a_thousand(trigger: Trigger) -> None:
    # 1,440 ticks in the window, of them one within the grace.
    policy = MisfirePolicy(catch_up="all", misfire_grace_ms=30 * SECOND)
    at = plan(trigger, 1_440 * MINUTE, policy)
    assert at.passed == Passed("missed", T0, T0 + 439 * MINUTE, 440, CATCH_UP_FULL)
    assert at.fire_ms == T0 + 440 * MINUTE
    assert len(range(440, 1_440)) == MAX_CATCH_UP


def test_a_grace_longer_than_the_window_wins() -> None:
    policy = MisfirePolicy(misfire_grace_ms=HOUR, catch_up_window_ms=0)
    assert plan(HOURLY, HOUR, policy).fire_ms == T0
    for catch_up in ("latest", "all", "none"):
        policy = msgspec.structs.replace(policy, catch_up=catch_up)
        at = plan(HOURLY, 2 * HOUR + MINUTE, policy)
        assert at.fire_ms == T0 + 2 * HOUR, catch_up
        assert at.passed is not None


def test_an_interval_gone_for_a_year_is_arithmetic() -> None:
    trigger = interval_trigger(0.01, fixed=True, jitter_s=0)
    at = plan(trigger, 365 * DAY)
    assert at.passed == Passed(
        "coalesced", T0, T0 + 365 * DAY - 10, 365 * DAY // 10, TICK_COALESCED
    )
    assert at.fire_ms == T0 + 365 * DAY


def test_a_minutely_cron_gone_for_a_year_is_counted_exactly() -> None:
    trigger = cron_trigger("* * * * *", timezone="Europe/Paris", jitter_s=20)
    at = plan(trigger, 365 * DAY + 25 * SECOND)
    assert at.passed is not None
    assert at.passed.count == (at.passed.last_ms - at.passed.first_ms) // MINUTE + 1
    assert at.passed.count in (365 * 1_440 - 1, 365 * 1_440)


def test_a_moved_run_time_counts_as_one_tick_beside_the_grid() -> None:
    moved_ms = T0 + 25 * SECOND  # run_at put it between two slots
    at = plan_tick(EVERY_MINUTE, MisfirePolicy(), TASK, moved_ms, moved_ms, T0, T0 + 5 * MINUTE)
    assert at.passed == Passed("coalesced", moved_ms, T0 + 4 * MINUTE, 5, TICK_COALESCED)
    assert at.fire_ms == T0 + 5 * MINUTE


def test_lateness_is_measured_after_jitter() -> None:
    policy = MisfirePolicy(catch_up="none", misfire_grace_ms=SECOND)
    due_ms = T0 + 40 * SECOND
    on_time = plan_tick(HOURLY, policy, TASK, T0, due_ms, T0, due_ms + SECOND)
    assert on_time.fire_ms == T0
    late = plan_tick(HOURLY, policy, TASK, T0, due_ms, T0, due_ms + SECOND + 1)
    assert late.fire_ms is None


def test_a_tick_that_is_not_due_is_refused() -> None:
    with pytest.raises(ValueError, match="is due at"):
        plan_tick(HOURLY, MisfirePolicy(), TASK, T0, T0 + 1, T0, T0)


def test_nothing_follows_the_last_tick_of_time() -> None:
    last_ms = LATEST_MS - 59_999
    at = plan_tick(MINUTELY, MisfirePolicy(), TASK, last_ms, last_ms, 0, last_ms)
    assert at == TickPlan(None, last_ms, last_ms, None, None)


def test_a_policy_of_defaults_encodes_to_nothing() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(MisfirePolicy())) == {}


# --- conservation ------------------------------------------------------------

FOLD_DAY = int(datetime(2026, 10, 25, 0, 0, tzinfo=UTC).timestamp()) * SECOND

TRIGGERS = [
    cron_trigger(expression, timezone="Europe/Paris", jitter_s=jitter_s, dst_fold=fold)
    for expression in ("*/10 * * * * *", "* * * * *", "*/25 2,3 * * *", "5,10,40 0-4 * * *")
    for jitter_s in (0, 45)
    for fold in ("first", "both")
] + [
    interval_trigger(seconds, fixed=True, jitter_s=jitter_s)
    for seconds in (7, 60, 900)
    for jitter_s in (0, 30)
]
POLICIES = st.builds(
    MisfirePolicy,
    misfire_grace_ms=st.sampled_from([0, 5 * SECOND, MINUTE, HOUR]),
    catch_up=st.sampled_from(["latest", "all", "none"]),
    catch_up_window_ms=st.sampled_from([0, 10 * MINUTE, HOUR, DAY]),
)


def listed(trigger: Trigger, start_ms: int, end_ms: int) -> list[int]:
    """Every nominal in ``[start_ms, end_ms]``, one by one."""
    ticks, at = [], next_nominal(trigger, start_ms - 1, FOLD_DAY, TASK)
    while at is not None and at <= end_ms:
        ticks.append(at)
        at = next_nominal(trigger, at, FOLD_DAY, TASK)
    return ticks


@settings(max_examples=300, deadline=None)
@given(
    trigger=st.sampled_from(TRIGGERS),
    policy=POLICIES,
    sleeps_ms=st.lists(
        st.one_of(st.integers(0, 2 * MINUTE), st.integers(0, 3 * HOUR)), min_size=1, max_size=8
    ),
)
def test_every_tick_has_exactly_one_outcome(
    trigger: Trigger, policy: MisfirePolicy, sleeps_ms: list[int]
) -> None:
    nominal_ms = next_nominal(trigger, FOLD_DAY - 1, FOLD_DAY, TASK)
    assert nominal_ms is not None
    first_ms, now_ms, high_ms = nominal_ms, nominal_ms, nominal_ms - 1
    due_ms = due_of(trigger, TASK, nominal_ms)
    covered: list[int] = []
    for sleep_ms in sleeps_ms:
        now_ms += sleep_ms
        while due_ms <= now_ms:
            at = plan_tick(trigger, policy, TASK, nominal_ms, due_ms, FOLD_DAY, now_ms)
            covered += check_plan(trigger, policy, at, nominal_ms, due_ms, now_ms)
            assert at.last_ms > high_ms
            high_ms = at.last_ms
            assert at.next_nominal_ms == next_nominal(trigger, high_ms, FOLD_DAY, TASK)
            assert at.next_nominal_ms is not None
            assert at.next_due_ms == due_of(trigger, TASK, at.next_nominal_ms)
            nominal_ms, due_ms = at.next_nominal_ms, at.next_due_ms
        overdue = [
            t for t in listed(trigger, first_ms, now_ms) if due_of(trigger, TASK, t) <= now_ms
        ]
        assert covered == overdue


def check_plan(
    trigger: Trigger,
    policy: MisfirePolicy,
    at: TickPlan,
    nominal_ms: int,
    due_ms: int,
    now_ms: int,
) -> list[int]:
    """The ticks that a plan covers, in order; asserts what must hold for each of them."""
    covered: list[int] = []
    if at.passed is not None:
        assert at.passed.first_ms == nominal_ms
        covered = listed(trigger, at.passed.first_ms, at.passed.last_ms)
        assert at.passed.count == len(covered)
        assert covered[-1] == at.passed.last_ms
        if trigger.kind == "cron":
            # A failover costs no tick: whatever is passed over is beyond the grace.
            dues = [due_of(trigger, TASK, tick) for tick in covered]
            assert all(now_ms - due > policy.misfire_grace_ms for due in dues)
        if at.passed.outcome == "coalesced":
            assert at.fire_ms is not None
            assert at.fire_ms > at.passed.last_ms
    else:
        assert at.fire_ms == nominal_ms
    if at.fire_ms is not None:
        covered.append(at.fire_ms)
        late_ms = now_ms - (
            due_ms if at.fire_ms == nominal_ms else due_of(trigger, TASK, at.fire_ms)
        )
        assert late_ms >= 0
        if late_ms > policy.misfire_grace_ms:
            assert policy.catch_up != "none"
            assert late_ms <= policy.catch_up_window_ms
    return covered
