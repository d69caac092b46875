"""Daylight saving: known days written out by hand, then a clock-reading oracle.

The oracle walks real minutes and reads the local clock at each, as somebody watching the
wall would. It knows nothing of folds, offsets or of how the implementation searches.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

import pytest

from quiv_dist.core.triggers import Trigger, count_nominals, cron_trigger, next_nominal

Gap = Literal["fire", "skip"]
Fold = Literal["first", "second", "both"]

MINUTE = timedelta(minutes=1)

# Zone, year with clock changes: each is there for what its rule has that others lack.
ZONE_YEARS = [
    ("Europe/Paris", 2026),
    ("Europe/Dublin", 2026),  # winter time is the negative DST
    ("America/New_York", 2026),
    ("America/Havana", 2025),  # both changes at midnight, local dates repeat
    ("America/Sao_Paulo", 2018),  # midnight gap
    ("America/Asuncion", 2023),  # midnight changes, southern
    ("Australia/Lord_Howe", 2026),  # half an hour
    ("Pacific/Chatham", 2026),  # offset of 12:45
    ("Pacific/Apia", 2011),  # a whole day is skipped
    ("Africa/Casablanca", 2026),  # suspended in Ramadan
    ("Africa/Cairo", 2024),  # starts on a Friday at midnight
    ("Asia/Gaza", 2024),
    ("Asia/Tehran", 2022),
    ("Asia/Kathmandu", 1985),  # a quarter of an hour, once and for all
    ("Antarctica/Troll", 2026),  # two hours
    ("America/Caracas", 2016),  # half an hour of standard time
    ("Europe/Moscow", 2014),  # a fold of standard time, no DST
    ("UTC", 2026),
]

# Expression, whether it names fixed times, its minutes and hours.
EXPRESSIONS: list[tuple[str, bool, set[int], set[int]]] = [
    ("30 0 * * *", True, {30}, {0}),
    ("0 0 * * *", True, {0}, {0}),
    ("30 1 * * *", True, {30}, {1}),
    ("0,15,30,45 0-3 * * *", True, {0, 15, 30, 45}, {0, 1, 2, 3}),
    ("5,50 2,3,23 * * *", True, {5, 50}, {2, 3, 23}),
    ("0 12 * * *", True, {0}, {12}),
    ("0 * * * *", False, {0}, set(range(24))),
    ("*/15 * * * *", False, {0, 15, 30, 45}, set(range(24))),
    ("30 */2 * * *", False, {30}, set(range(0, 24, 2))),
    ("*/20 0,2 * * *", False, {0, 20, 40}, {0, 2}),
    ("45 0-23 * * *", False, {45}, set(range(24))),
    ("* 1 * * *", False, set(range(60)), {1}),
]


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def listed(expression: str, zone: str, start: str, end: str, **options: str) -> list[str]:
    """The ticks in ``[start, end)``, as UTC month-day and time."""
    trigger = cron_trigger(expression, timezone=zone, jitter_s=0, **options)  # type: ignore[arg-type]
    ticks, at = [], next_nominal(trigger, utc(start) - 1, 0, "task")
    while at is not None and at < utc(end):
        ticks.append(f"{datetime.fromtimestamp(at / 1000, UTC):%m-%dT%H:%M}")
        at = next_nominal(trigger, at, 0, "task")
    return ticks


# --- by hand -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "zone", "days", "options", "expected"),
    [
        # Paris 2026-03-29: 02:00 becomes 03:00 at 01:00Z.
        ("30 2 * * *", "Europe/Paris", ("2026-03-28", "2026-03-31"), {},
         ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),
        ("30 2 * * *", "Europe/Paris", ("2026-03-28", "2026-03-31"), {"dst_gap": "skip"},
         ["03-28T01:30", "03-30T00:30"]),
        ("0,30 2,3 * * *", "Europe/Paris", ("2026-03-29", "2026-03-30"), {},
         ["03-29T01:00", "03-29T01:30"]),
        ("*/30 2 * * *", "Europe/Paris", ("2026-03-29", "2026-03-30"), {}, []),
        ("0 */3 * * *", "Europe/Paris", ("2026-03-28T22:00", "2026-03-29T07:00"), {},
         ["03-28T23:00", "03-29T01:00", "03-29T04:00"]),
        # Paris 2026-10-25: 03:00 becomes 02:00 at 01:00Z.
        ("30 2 * * *", "Europe/Paris", ("2026-10-25", "2026-10-26"), {}, ["10-25T00:30"]),
        ("30 2 * * *", "Europe/Paris", ("2026-10-25", "2026-10-26"), {"dst_fold": "second"},
         ["10-25T01:30"]),
        ("30 2 * * *", "Europe/Paris", ("2026-10-25", "2026-10-26"), {"dst_fold": "both"},
         ["10-25T00:30", "10-25T01:30"]),
        ("0,40 2 * * *", "Europe/Paris", ("2026-10-25", "2026-10-26"), {"dst_fold": "both"},
         ["10-25T00:00", "10-25T00:40", "10-25T01:00", "10-25T01:40"]),
        ("30 * * * *", "Europe/Paris", ("2026-10-24T23:00", "2026-10-25T03:00"), {},
         ["10-24T23:30", "10-25T00:30", "10-25T01:30", "10-25T02:30"]),
        # New York 2026-11-01: 02:00 becomes 01:00 at 06:00Z; a daily 01:30 fires once.
        ("30 1 * * *", "America/New_York", ("2026-11-01", "2026-11-03"), {},
         ["11-01T05:30", "11-02T06:30"]),
        # Havana 2025-03-09: midnight becomes 01:00 at 05:00Z; 2025-11-02: 01:00 becomes 00:00.
        ("0 0 * * *", "America/Havana", ("2025-03-09", "2025-03-11"), {},
         ["03-09T05:00", "03-10T04:00"]),
        ("0 0 * * sun", "America/Havana", ("2025-11-02", "2025-11-03"), {}, ["11-02T04:00"]),
        # Lord Howe 2026-04-05: 02:00 becomes 01:30 at 15:00Z the day before.
        ("45 1 * * *", "Australia/Lord_Howe", ("2026-04-04", "2026-04-05"), {}, ["04-04T14:45"]),
        ("45 1 * * *", "Australia/Lord_Howe", ("2026-04-04", "2026-04-05"),
         {"dst_fold": "second"}, ["04-04T15:15"]),
        # Apia went from the end of 2011-12-29 (10:00Z on the 30th) to the 31st.
        ("0 12 * * *", "Pacific/Apia", ("2011-12-29", "2012-01-01"), {},
         ["12-29T22:00", "12-30T10:00", "12-30T22:00", "12-31T22:00"]),
        ("0 12 30 12 *", "Pacific/Apia", ("2011-01-01", "2012-01-01"), {}, ["12-30T10:00"]),
        ("0 12 30 12 *", "Pacific/Apia", ("2011-01-01", "2012-01-01"), {"dst_gap": "skip"}, []),
        # Troll 2026-03-29: 01:00 becomes 03:00 at 01:00Z.
        ("30 1,2 * * *", "Antarctica/Troll", ("2026-03-29", "2026-03-29T12:00"), {},
         ["03-29T01:00"]),
        # A step in the seconds alone makes the expression follow elapsed time.
        ("*/30 30 2 * * *", "Europe/Paris", ("2026-03-29", "2026-03-30"), {}, []),
        ("0 30 2 * * *", "Europe/Paris", ("2026-03-29", "2026-03-30"), {}, ["03-29T01:00"]),
    ],
)  # fmt: skip
def test_a_known_day(
    expression: str,
    zone: str,
    days: tuple[str, str],
    options: dict[str, str],
    expected: list[str],
) -> None:
    assert listed(expression, zone, *days, **options) == expected


@pytest.mark.parametrize("expression", ["*/15 * * * *", "0 * * * *", "* 2 * * *", "7 2/1 * * *"])
@pytest.mark.parametrize("gap", ["fire", "skip"])
@pytest.mark.parametrize("fold", ["first", "second", "both"])
def test_the_options_do_not_touch_elapsed_time(expression: str, gap: str, fold: str) -> None:
    for start, end in (("2026-03-28", "2026-03-30"), ("2026-10-24", "2026-10-26")):
        plain = listed(expression, "Europe/Paris", start, end)
        assert plain == listed(expression, "Europe/Paris", start, end, dst_gap=gap, dst_fold=fold)


# --- by reading the clock ----------------------------------------------------


def clock_changes(zone: ZoneInfo, year: int) -> list[datetime]:
    """The hours of a year at whose end the clock has changed against their start."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(365 * 24)]
    readings = [(hour, hour.astimezone(zone).replace(tzinfo=None)) for hour in hours]
    return [
        later
        for (_, wall), (later, later_wall) in pairwise(readings)
        if later_wall - wall != timedelta(hours=1)
    ]


def read_the_clock(
    zone: ZoneInfo, start: datetime, minutes: int
) -> list[tuple[datetime, datetime]]:
    """(instant, wall time) for each minute."""
    instants = [start + n * MINUTE for n in range(minutes)]
    return [(at, at.astimezone(zone).replace(tzinfo=None)) for at in instants]


def expected_ticks(
    readings: list[tuple[datetime, datetime]],
    minutes: set[int],
    hours: set[int],
    fixed: tuple[Gap, Fold] | None,
) -> set[datetime]:
    """What a person at the clock would fire; ``fixed`` is None for elapsed time."""
    if fixed is None:
        return {at for at, wall in readings if wall.minute in minutes and wall.hour in hours}
    gap, fold = fixed
    seen: dict[datetime, list[datetime]] = defaultdict(list)
    for at, wall in readings:
        seen[wall].append(at)
    ticks = set()
    wall, last = readings[0][1], readings[-1][1]
    while wall < last:
        if wall.minute in minutes and wall.hour in hours:
            passes = seen.get(wall)
            if passes:
                ticks |= set({"first": passes[:1], "second": passes[-1:], "both": passes}[fold])
            elif gap == "fire":
                ticks.add(next(instant for instant, shown in readings if shown > wall))
        wall += MINUTE
    return ticks


OPTIONS: list[tuple[Gap, Fold]] = [
    ("fire", "first"),
    ("skip", "first"),
    ("fire", "second"),
    ("fire", "both"),
]


@pytest.mark.parametrize(("name", "year"), ZONE_YEARS)
def test_ticks_around_every_change_are_those_read_off_the_clock(name: str, year: int) -> None:
    zone = ZoneInfo(name)
    changes = clock_changes(zone, year) or [datetime(year, 6, 1, tzinfo=UTC)]
    for change in changes:
        readings = read_the_clock(zone, change - timedelta(hours=40), 80 * 60)
        # Ticks near the ends of the readings cannot be judged: the oracle sees no further.
        low, high = change - timedelta(hours=12), change + timedelta(hours=12)
        for expression, is_fixed, minutes, hours in EXPRESSIONS:
            for gap, fold in OPTIONS if is_fixed else OPTIONS[:1]:
                wanted = expected_ticks(readings, minutes, hours, (gap, fold) if is_fixed else None)
                trigger = cron_trigger(
                    expression, timezone=name, jitter_s=0, dst_gap=gap, dst_fold=fold
                )
                claim = f"{expression} {name} {gap} {fold} {change}"
                assert ticks_between(trigger, low, high) == sorted(
                    at for at in wanted if low <= at < high
                ), claim
                for start, end in ((low, change), (change - MINUTE, high), (change, high)):
                    count = count_nominals(trigger, ms(start) - 1, ms(end) - 1, 0, "task")
                    assert count == len([at for at in wanted if start <= at < end]), claim


def ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000


def ticks_between(trigger: Trigger, low: datetime, high: datetime) -> list[datetime]:
    ticks, at = [], next_nominal(trigger, ms(low) - 1, 0, "task")
    while at is not None and at < ms(high):
        ticks.append(datetime.fromtimestamp(at / 1000, UTC))
        at = next_nominal(trigger, at, 0, "task")
    return ticks


def test_every_chosen_year_but_that_of_utc_has_a_change() -> None:
    without = [name for name, year in ZONE_YEARS if not clock_changes(ZoneInfo(name), year)]
    assert without == ["UTC"]


@pytest.mark.parametrize(("name", "year"), ZONE_YEARS)
def test_every_second_inside_a_change_sees_the_same_next_tick(name: str, year: int) -> None:
    """Asked from any moment, the next tick is the first of the listed ones after it."""
    zone = ZoneInfo(name)
    for change in clock_changes(zone, year):
        low, high = change - timedelta(hours=5), change + timedelta(hours=5)
        folds: tuple[Fold, ...] = ("first", "second", "both")
        for fold in folds:
            trigger = cron_trigger(
                "0,25,50 0-4,22,23 * * *",
                timezone=name,
                jitter_s=0,
                dst_fold=fold,
            )
            ticks = ticks_between(trigger, low - timedelta(hours=24), high + timedelta(hours=48))
            at = low
            while at < high:
                first = next(tick for tick in ticks if tick > at)
                assert next_nominal(trigger, ms(at), 0, "task") == ms(first), (at, fold)
                at += timedelta(seconds=211)
