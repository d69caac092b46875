"""Triggers: validation at the door, interval arithmetic, counting, due times."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quiv_dist.core.triggers import (
    LATEST_MS,
    Trigger,
    count_nominals,
    cron_trigger,
    due_of,
    interval_trigger,
    newest_nominal,
    next_nominal,
    once_trigger,
)
from quiv_dist.exceptions import ConfigurationError, InvalidTimezoneError

TASK = "0195f6a0-5d2c-7c1e-8f00-000000000001"
NOW_MS = 1_790_000_000_000

CRONS = [
    cron_trigger(expression, timezone=zone, jitter_s=0)
    for expression, zone in [
        ("* * * * *", "Europe/Paris"),
        ("*/7 1-5 * * *", "America/Havana"),
        ("30 2 * * *", "Australia/Lord_Howe"),
        ("0 0 * * *", "America/Asuncion"),
        ("0 9 * * mon-fri", "Asia/Kathmandu"),
        ("0 12 l * *", "UTC"),
        ("0 0 29 2 *", "UTC"),
        ("*/20 15,45 3 * * *", "Europe/Dublin"),
    ]
] + [
    cron_trigger("15,45 0-3 * * *", timezone="America/New_York", jitter_s=0, dst_fold=fold)
    for fold in ("second", "both")
]


def utc_ms(*fields: int) -> int:
    return int(datetime(*fields, tzinfo=UTC).timestamp()) * 1000  # type: ignore[misc,arg-type]


# --- validation --------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds",
    [0, 0.0, -1, 0.009, -math.inf, math.inf, math.nan, True, False, None, "5", 1j, []],
)
def test_an_interval_that_is_no_period_is_refused_by_name_and_value(seconds: object) -> None:
    with pytest.raises(ConfigurationError, match="interval=") as caught:
        interval_trigger(seconds, fixed=True, jitter_s=0)  # type: ignore[arg-type]
    assert repr(seconds) in str(caught.value)
    assert "0.01 or more" in str(caught.value)


@pytest.mark.parametrize("jitter", [-0.001, math.inf, -math.inf, math.nan, True, None, "1"])
def test_a_jitter_that_is_no_duration_is_refused_by_name(jitter: object) -> None:
    with pytest.raises(ConfigurationError, match="jitter="):
        interval_trigger(1, fixed=True, jitter_s=jitter)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="jitter="):
        cron_trigger("* * * * *", timezone="UTC", jitter_s=jitter)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.01, 10), (1, 1000), (0.0155, 16), (60, 60_000)]
)
def test_an_interval_is_kept_in_milliseconds(seconds: float, expected: int) -> None:
    assert interval_trigger(seconds, fixed=True, jitter_s=0).interval_ms == expected


@pytest.mark.parametrize("seconds", [1e300, 10**400, LATEST_MS])
def test_an_interval_longer_than_time_is_storable_and_never_ends(seconds: float) -> None:
    trigger = interval_trigger(seconds, fixed=True, jitter_s=0)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(trigger), type=Trigger) == trigger
    assert next_nominal(trigger, NOW_MS, NOW_MS, TASK) == LATEST_MS


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "   ",
        "*",
        "* * * *",
        "* * * * * * *",
        "0 0 1 1 * 0 2030",
        "nonsense",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "60 * * * * *",
        "*/0 * * * *",
        "-1 * * * *",
        "5-1-3 * * * *",
        "a b c d e",
        "0 0 * * mon#6",
        "@reboot",
        "@hourly @daily",
        "R * * * *",
        "R(0-5) * * * *",
        "r/5 * * * *",
        "\x00 * * * *",
        None,
        5,
        b"* * * * *",
    ],
)
def test_a_malformed_cron_is_refused_by_name_and_value(expression: object) -> None:
    with pytest.raises(ConfigurationError, match="cron=") as caught:
        cron_trigger(expression, timezone="UTC", jitter_s=0)  # type: ignore[arg-type]
    assert repr(expression) in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 0 30 2 *", "0 0 1 * mon#5", "0 0 H(30-31) 2 *"],
)
def test_a_cron_that_never_fires_is_refused(expression: str) -> None:
    with pytest.raises(ConfigurationError, match="never fires"):
        cron_trigger(expression, timezone="UTC", jitter_s=0)


@given(st.text(alphabet="0123456789*/-,#?@LlWwHhRrmonjan() ", max_size=24))
def test_any_text_is_a_trigger_or_a_configuration_error(expression: str) -> None:
    try:
        trigger = cron_trigger(expression, timezone="UTC", jitter_s=0)
        following = next_nominal(trigger, NOW_MS, 0, TASK)
    except ConfigurationError:
        return
    assert following is None or following > NOW_MS


@pytest.mark.parametrize(
    "zone",
    [
        "",
        " ",
        "Nowhere/City",
        "../etc/passwd",
        "/etc/localtime",
        "localtime",
        "America",
        "\x00",
        None,
        5,
        [],
    ],
)
def test_an_unknown_zone_is_refused_by_name_and_value(zone: object) -> None:
    with pytest.raises(InvalidTimezoneError, match="cron_timezone=") as caught:
        cron_trigger("* * * * *", timezone=zone, jitter_s=0)  # type: ignore[arg-type]
    assert repr(zone) in str(caught.value)


@pytest.mark.parametrize("option", ["dst_gap", "dst_fold"])
@pytest.mark.parametrize("value", ["third", "", None])
def test_an_unknown_dst_option_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{option}="):
        cron_trigger("* * * * *", timezone="UTC", jitter_s=0, **{option: value})  # type: ignore[arg-type]


# --- identity ----------------------------------------------------------------


def test_the_same_schedule_has_the_same_bytes_however_it_is_spaced() -> None:
    one = cron_trigger("0 9 * * 1", timezone="UTC", jitter_s=0)
    other = cron_trigger("  0  9 *\t* 1 ", timezone="gmt", jitter_s=0.0)
    assert msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other)


@pytest.mark.parametrize(
    "trigger", [*CRONS, once_trigger(), interval_trigger(3, fixed=False, jitter_s=1)]
)
def test_a_trigger_survives_its_encoding(trigger: Trigger) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(trigger), type=Trigger) == trigger


# --- next --------------------------------------------------------------------


def test_once_has_no_next_time() -> None:
    assert next_nominal(once_trigger(), NOW_MS, NOW_MS, TASK) is None
    assert count_nominals(once_trigger(), 0, NOW_MS, 0, TASK) == 0


@given(
    period_ms=st.integers(10, 5_000),
    anchor_ms=st.integers(NOW_MS, NOW_MS + 10_000),
    offset_ms=st.integers(-20_000, 20_000),
)
def test_interval_slots_are_those_of_the_listed_grid(
    period_ms: int, anchor_ms: int, offset_ms: int
) -> None:
    trigger = interval_trigger(period_ms / 1000, fixed=True, jitter_s=0)
    after_ms = anchor_ms + offset_ms
    grid = range(anchor_ms, anchor_ms + 40_000, period_ms)
    assert next_nominal(trigger, after_ms, anchor_ms, TASK) == min(s for s in grid if s > after_ms)
    passed = [slot for slot in grid if anchor_ms < slot <= after_ms]
    if offset_ms >= 0:
        known = newest_nominal(trigger, anchor_ms, after_ms, anchor_ms, TASK)
        assert known == max([anchor_ms, *passed])
    assert count_nominals(trigger, anchor_ms, after_ms, anchor_ms, TASK) == len(passed)
    before = count_nominals(trigger, anchor_ms - 50_000, after_ms, anchor_ms, TASK)
    assert before == len([slot for slot in grid if slot <= after_ms])


@pytest.mark.parametrize("trigger", CRONS, ids=lambda t: t.cron)
@given(after_ms=st.integers(0, 4_000_000_000_000), later_ms=st.integers(0, 90_000_000))
def test_cron_next_is_strictly_after_monotone_and_leaves_nothing_between(
    trigger: Trigger, after_ms: int, later_ms: int
) -> None:
    first = next_nominal(trigger, after_ms, 0, TASK)
    assert first is not None
    assert first > after_ms
    assert first % 1000 == 0
    second = next_nominal(trigger, after_ms + later_ms, 0, TASK)
    assert second is not None
    assert second >= first
    # From anywhere short of the tick the same tick is seen, so none lies between.
    assert next_nominal(trigger, first - 1, 0, TASK) == first
    assert next_nominal(trigger, (after_ms + first) // 2, 0, TASK) == first


@pytest.mark.parametrize("trigger", CRONS, ids=lambda t: t.cron)
@given(year=st.integers(2015, 2030), month=st.sampled_from([3, 4, 10, 11]), data=st.data())
def test_cron_count_and_newest_agree_with_listing(
    trigger: Trigger, year: int, month: int, data: st.DataObject
) -> None:
    after_ms = utc_ms(year, month, 1) + data.draw(st.integers(0, 31 * 86_400)) * 1000
    upto_ms = after_ms + data.draw(st.integers(0, 40 * 3600)) * 1000
    listed: list[int] = []
    tick = next_nominal(trigger, after_ms, 0, TASK)
    while tick is not None and tick <= upto_ms:
        listed.append(tick)
        tick = next_nominal(trigger, tick, 0, TASK)
    assert count_nominals(trigger, after_ms, upto_ms, 0, TASK) == len(listed)
    if listed:
        assert newest_nominal(trigger, listed[0], upto_ms, 0, TASK) == listed[-1]


def test_a_year_of_minutely_cron_is_counted_exactly() -> None:
    trigger = cron_trigger("* * * * *", timezone="Europe/Paris", jitter_s=0)
    start, end = utc_ms(2025, 1, 1), utc_ms(2026, 1, 1)
    assert count_nominals(trigger, start, end, 0, TASK) == 365 * 1440


@pytest.mark.parametrize("after_ms", [LATEST_MS, LATEST_MS + 1, LATEST_MS * 10])
@pytest.mark.parametrize("trigger", [*CRONS, interval_trigger(1, fixed=True, jitter_s=0)])
def test_nothing_comes_after_the_latest_instant(trigger: Trigger, after_ms: int) -> None:
    assert next_nominal(trigger, after_ms, 0, TASK) is None


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Midway", "Europe/Paris"])
def test_cron_runs_out_at_the_latest_instant(zone: str) -> None:
    trigger = cron_trigger("59 23 31 12 *", timezone=zone, jitter_s=0)
    assert next_nominal(trigger, utc_ms(9999, 2, 1), 0, TASK) is None
    minutely = cron_trigger("* * * * *", timezone=zone, jitter_s=0)
    assert next_nominal(minutely, LATEST_MS - 60_000, 0, TASK) == LATEST_MS - 59_999
    assert next_nominal(minutely, LATEST_MS - 1, 0, TASK) is None


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Midway"])
def test_cron_from_before_the_calendar_starts_with_it(zone: str) -> None:
    trigger = cron_trigger("0 0 * * *", timezone=zone, jitter_s=0)
    first = next_nominal(trigger, -(10**18), 0, TASK)
    assert first is not None
    assert first < utc_ms(1, 1, 5)


# --- H -----------------------------------------------------------------------


def test_h_is_stable_for_a_task_and_spreads_over_tasks() -> None:
    trigger = cron_trigger("H * * * *", timezone="UTC", jitter_s=0)
    minutes = {
        task: next_nominal(trigger, utc_ms(2026, 1, 1), 0, task)
        for task in (f"task-{n}" for n in range(200))
    }
    assert len(set(minutes.values())) > 50
    for task, tick in minutes.items():
        assert tick is not None
        assert next_nominal(trigger, tick, 0, task) == tick + 3_600_000


def test_aliases_are_not_spread() -> None:
    trigger = cron_trigger("@hourly", timezone="UTC", jitter_s=0)
    midnight = utc_ms(2026, 1, 1)
    assert {next_nominal(trigger, midnight, 0, f"t{n}") for n in range(9)} == {midnight + 3_600_000}


def test_a_monthly_h_fires_in_every_month() -> None:
    trigger = cron_trigger("0 0 H * *", timezone="UTC", jitter_s=0)
    for n in range(60):
        assert (
            count_nominals(trigger, utc_ms(2025, 1, 1) - 1, utc_ms(2026, 1, 1) - 1, 0, f"t{n}")
            == 12
        )


def test_an_h_that_meets_no_date_fails_that_task_alone() -> None:
    trigger = cron_trigger("0 0 H(29-31) 2 *", timezone="UTC", jitter_s=0)
    outcomes = set()
    for n in range(40):
        try:
            outcomes.add(next_nominal(trigger, utc_ms(2026, 1, 1), 0, f"t{n}"))
        except ConfigurationError:
            outcomes.add(None)
    assert outcomes == {None, utc_ms(2028, 2, 29)}


def test_six_fields_put_seconds_first() -> None:
    trigger = cron_trigger("15 30 4 * * *", timezone="UTC", jitter_s=0)
    assert next_nominal(trigger, utc_ms(2026, 5, 1), 0, TASK) == utc_ms(2026, 5, 1, 4, 30, 15)


# --- due ---------------------------------------------------------------------


@given(jitter_s=st.floats(0, 1e6), nominal_ms=st.integers(0, NOW_MS * 2), task=st.text(max_size=8))
def test_jitter_never_reaches_the_next_nominal(jitter_s: float, nominal_ms: int, task: str) -> None:
    interval = interval_trigger(0.5, fixed=True, jitter_s=jitter_s)
    assert nominal_ms <= due_of(interval, task, nominal_ms) < nominal_ms + 500
    cron = cron_trigger("*/5 * * * *", timezone="Europe/Paris", jitter_s=jitter_s)
    tick = next_nominal(cron, nominal_ms, 0, task)
    assume(tick is not None)
    assert tick is not None
    following = next_nominal(cron, tick, 0, task)
    assert following is not None
    assert tick <= due_of(cron, task, tick) < min(following, tick + jitter_s * 1000 + 1)


def test_jitter_spreads_over_its_bound() -> None:
    trigger = interval_trigger(60, fixed=True, jitter_s=30)
    delays = [due_of(trigger, f"t{n}", NOW_MS) - NOW_MS for n in range(400)]
    assert min(delays) < 3_000
    assert 27_000 < max(delays) < 30_000


def test_a_due_time_is_storable() -> None:
    once = msgspec.structs.replace(once_trigger(), jitter_ms=10**15)
    assert due_of(once, TASK, LATEST_MS - 5) == LATEST_MS
