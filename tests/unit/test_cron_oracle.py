"""Cron against two independent implementations: croniter and cronsim.

croniter is the authority on syntax and on which days match; away from DST (here: in UTC)
the two must agree on everything. cronsim, which follows Debian's cron, is the second
opinion on DST. Where cronsim's rules are others than ours, the case is left out here and
stands, by hand, in test_dst:

* cronsim calls a time fixed when minute and hour do not *begin* with ``*``; for us any
  step makes elapsed time (``7 2/1 * * *``), and a range over the whole field is ``*``.
* cronsim treats six-field expressions as elapsed time even when all fields are numbers.
* cronsim joins the day fields with AND when one begins with ``*`` (``*/2``), we follow
  croniter, for which only a plain ``*`` leaves a field out.
* cronsim looks for the hour in hops of 3,600 s, so after a clock change that is not on the
  hour (Gaza 2010, at 00:01; Chatham, at 02:45) or not by whole hours (Lord Howe) it misses
  times that the wall clock shows. With hours restricted those zones are test_dst's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterBadDateError, croniter
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from quiv_dist.core.cron import compile_cron
from quiv_dist.core.triggers import cron_trigger, next_nominal
from quiv_dist.exceptions import ConfigurationError

ZONES = [
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/New_York",
    "America/Sao_Paulo",
    "Antarctica/Troll",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Paris",
    "Pacific/Apia",
    "Pacific/Chatham",
]

SPARSE = [
    "30 0 * * *",
    "0 0 * * *",
    "30 1 * * *",
    "15,45 2 * * *",
    "0 3 * * 0",
    "30 2 25-31 3,10 *",
    "0 12 L * *",
    "0 0 1,15 * 5",
    "59 23 * * mon#1",
]
EVERY_HOUR = ["0 * * * *", "*/15 * * * *"]
SOME_HOURS = ["30 */2 * * *", "*/7 0-4 * * *", "* 2 * * 6,0"]
OFF_THE_HOUR = {"Asia/Gaza", "Australia/Lord_Howe", "Pacific/Chatham"}


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    span = st.tuples(value, value).map(lambda ends: f"{min(ends)}-{max(ends)}")
    return st.one_of(
        st.just("*"),
        value.map(str),
        st.lists(value.map(str), min_size=2, max_size=4).map(",".join),
        span,
        st.tuples(value, value).map(lambda ends: f"{max(ends)}-{min(ends)}"),
        st.integers(1, high).map(lambda step: f"*/{step}"),
        st.tuples(span, st.integers(1, 9)).map(lambda parts: f"{parts[0]}/{parts[1]}"),
        st.tuples(value, st.integers(1, 9)).map(lambda parts: f"{parts[0]}/{parts[1]}"),
    )


DAYS = st.one_of(
    numbers(1, 31), st.sampled_from(["L", "5,L", "15W", "W1", "31W", "?", "29-31", "1-L"])
)
MONTHS = st.one_of(numbers(1, 12), st.sampled_from(["jan", "MAR-jun", "nov-feb", "dec/2"]))
WEEKDAYS = st.one_of(
    numbers(0, 6),
    st.sampled_from(
        ["mon-fri", "SAT,sun", "fri-mon", "7", "5-7", "?", "mon#1", "fri#5", "L5", "1#2,3#4", "L7"]
    ),
)
FIVE_FIELDS = st.tuples(numbers(0, 59), numbers(0, 23), DAYS, MONTHS, WEEKDAYS).map(" ".join)
SIX_FIELDS = st.tuples(numbers(0, 59), FIVE_FIELDS).map(" ".join)
ALIASES = st.sampled_from(
    ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@Annually"]
)


@settings(max_examples=400)
@given(st.one_of(FIVE_FIELDS, SIX_FIELDS, ALIASES), st.integers(0, 4_000_000_000))
def test_away_from_dst_it_is_croniter(expression: str, start_s: int) -> None:
    oracle = croniter(expression, float(start_s), second_at_beginning=True)
    try:
        schedule = compile_cron(expression, None)
    except ConfigurationError:
        with pytest.raises(CroniterBadDateError):
            oracle.get_next(float)
        return
    at: int | None = start_s
    for _ in range(4):
        assert at is not None
        at = schedule.next_wall(at)
        assert at == int(oracle.get_next(float)), (expression, start_s)


@settings(max_examples=60)
@given(
    st.sampled_from(
        ["H * * * *", "H H * * *", "H/15 * * * *", "H(10-20) H(0-5) * * H", "H 0 5 * * *"]
    ),
    st.text(min_size=1, max_size=12),
    st.integers(0, 4_000_000_000),
)
def test_h_is_croniter_s_hash_of_the_task_id(expression: str, task_id: str, start_s: int) -> None:
    oracle = croniter(expression, float(start_s), hash_id=task_id, second_at_beginning=True)
    trigger = cron_trigger(expression, timezone="UTC", jitter_s=0)
    expected = int(oracle.get_next(float)) * 1000
    assert next_nominal(trigger, start_s * 1000, 0, task_id) == expected


def clock_changes(zone: ZoneInfo, first: int, last: int) -> list[datetime]:
    """Every clock change of the years, to within six hours."""
    start, days = datetime(first, 1, 1, tzinfo=UTC), (last - first + 1) * 365
    grid = [start + timedelta(hours=6 * n) for n in range(days * 4)]
    offsets = [(at, at.astimezone(zone).utcoffset()) for at in grid]
    return [later for (_, old), (later, new) in pairwise(offsets) if old != new]


def compare(expression: str, name: str, start: datetime, end: datetime) -> int:
    """Assert that both name the same instants in a period, and return how many."""
    trigger = cron_trigger(expression, timezone=name, jitter_s=0)
    at: int | None = int(start.timestamp()) * 1000
    oracle = CronSim(expression, start.astimezone(ZoneInfo(name)))
    count = 0
    while at is not None and at < end.timestamp() * 1000:
        at = next_nominal(trigger, at, 0, "task")
        assert at is not None
        expected = next(oracle).astimezone(UTC)
        assert datetime.fromtimestamp(at / 1000, UTC) == expected, (expression, name)
        count += 1
    return count


@pytest.mark.parametrize("name", ZONES)
def test_sparse_schedules_are_cronsim_s_over_years(name: str) -> None:
    for first in (1985, 2010, 2022):
        start = datetime(first, 1, 1, tzinfo=UTC)
        for expression in SPARSE:
            assert compare(expression, name, start, start + timedelta(days=2 * 365)) > 3


@pytest.mark.parametrize("name", [name for name in ZONES if name != "UTC"])
def test_dense_schedules_are_cronsim_s_around_every_clock_change(name: str) -> None:
    changes = [
        change
        for first, last in ((1985, 1986), (2010, 2012), (2022, 2024))
        for change in clock_changes(ZoneInfo(name), first, last)
    ]
    assert changes
    expressions = EVERY_HOUR if name in OFF_THE_HOUR else EVERY_HOUR + SOME_HOURS
    for change in changes:
        for expression in expressions:
            compare(expression, name, change - timedelta(hours=30), change + timedelta(hours=20))
