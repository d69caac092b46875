"""Cron expressions: parsing, and arithmetic on naive wall-clock time.

croniter parses (so names, ranges, ``#``, ``L``, ``W`` and ``?`` mean what they mean
there); this module evaluates. Evaluation is on bit masks over *wall seconds*, the
seconds since 1970-01-01T00:00 on the local clock, with no time zone in it. How a wall
second becomes an instant is decided in :mod:`quiv_dist.core.dst`.

What differs from croniter, and why:

* ``@hourly`` and friends are their plain five-field forms, never spread: only ``H``
  spreads. (croniter spreads them as soon as it is given a hash id.)
* A bare ``H`` as day of month draws from 1 to 28, so that it fires in every month.
* ``R`` is refused: it is drawn again at each parse, so two schedulers would disagree.
* A seventh field (year) is refused.
* "Never" is exact. The Gregorian calendar repeats every 400 years, so an expression with
  no day in 400 years has none at all; croniter gives up after 50.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from croniter import croniter

from quiv_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

DAY_S: Final = 86_400
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_LAST_YEAR: Final = 9999
_CALENDAR_CYCLE_YEARS: Final = 400
_DAYS_IN_WEEK: Final = 7
_SATURDAY: Final = 6  # weekdays count from Sunday, as in cron
_SUNDAY: Final = 0

# Field positions in croniter's result, which moves a leading seconds field to the end.
_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _SECOND = range(6)
_ALL_BITS: Final = {
    _MINUTE: (0, 59),
    _HOUR: (0, 23),
    _DAY: (1, 31),
    _MONTH: (1, 12),
    _WEEKDAY: (0, 6),
    _SECOND: (0, 59),
}
_FIELDS: Final = 5
_FIELDS_WITH_SECONDS: Final = 6
_HASHED: Final = re.compile(r"h(?:\(|/|$)")
_RANDOM: Final = re.compile(r"r(?:\(|/|$)")
_ACCEPTED: Final = (
    "accepted are 5 fields (minute hour day-of-month month day-of-week), 6 fields with "
    "seconds first, or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, "
    "@annually"
)


class CronSchedule:
    """One parsed expression. Immutable in effect; :func:`compile_cron` shares instances.

    Attributes:
        fixed_time: True when second, minute and hour are all lists of numbers or ranges
            (``30 2 * * *``, ``0 9-17 * * *``); False when any of the three has a ``*`` or
            a step, or spans its whole field (``0 * * * *``, ``*/15 2 * * *``).
    """

    __slots__ = (
        "_first_second",
        "_first_tod",
        "_hours",
        "_minutes",
        "_month_masks",
        "_months",
        "_parsed",
        "_per_day",
        "_per_hour",
        "_seconds",
        "fixed_time",
    )

    def __init__(self, parsed: croniter) -> None:
        self._parsed = parsed
        fields: Sequence[Sequence[int | str]] = parsed.expanded
        self._minutes = _mask(fields[_MINUTE], _MINUTE)
        self._hours = _mask(fields[_HOUR], _HOUR)
        self._months = _mask(fields[_MONTH], _MONTH)
        has_seconds = len(fields) > _SECOND
        self._seconds = _mask(fields[_SECOND], _SECOND) if has_seconds else 1
        clock_fields = (_MINUTE, _HOUR, _SECOND) if has_seconds else (_MINUTE, _HOUR)
        self.fixed_time = not any(
            "*" in fields[i] or "*" in parsed.expressions[i] or "/" in parsed.expressions[i]
            for i in clock_fields
        )
        self._first_second = _lowest(self._seconds)
        self._first_tod = (
            _lowest(self._hours) * 3600 + _lowest(self._minutes) * 60 + self._first_second
        )
        self._per_hour = self._minutes.bit_count() * self._seconds.bit_count()
        self._per_day = self._hours.bit_count() * self._per_hour
        # Which days match depends only on the month's length and first weekday, so this
        # holds at most 28 entries for each month that is not all alike.
        self._month_masks: dict[tuple[int, int], int] = {}

    def next_wall(self, after_s: int) -> int | None:
        """The first matching wall second strictly after ``after_s``, None past year 9999."""
        day, tod = divmod(after_s + 1, DAY_S)
        today = self._day_at_or_after(day)
        if today is None:
            return None
        if today == day:
            found = self._tod_at_or_after(tod)
            if found >= 0:
                return day * DAY_S + found
            today = self._day_at_or_after(day + 1)
            if today is None:
                return None
        return today * DAY_S + self._first_tod

    def count_walls(self, start_s: int, end_s: int) -> int:
        """How many wall seconds in ``[start_s, end_s)`` match. Costs a step a month."""
        if end_s <= start_s:
            return 0
        first, first_tod = divmod(start_s, DAY_S)
        last, last_tod = divmod(end_s, DAY_S)
        count = self._count_days(first, last) * self._per_day
        if first_tod and self._count_days(first, first + 1):
            count -= self._rank(first_tod)
        if last_tod and self._count_days(last, last + 1):
            count += self._rank(last_tod)
        return count

    def fires_ever(self) -> bool:
        """Whether any date matches: exact, by one full cycle of the calendar.

        As in croniter, an expression that restricts both day fields and has a ``#`` or a
        ``W`` needs a date on each side of the OR.
        """
        either = not (self._parsed.nth_weekday_of_month or self._parsed.nearest_weekday)
        month_day = week_day = False
        for year in range(2000, 2000 + _CALENDAR_CYCLE_YEARS):
            for month in range(1, 13):
                if self._months >> month & 1:
                    sides = self._match_days(*monthrange(year, month))
                    month_day, week_day = month_day or sides[0] > 0, week_day or sides[1] > 0
                    if (month_day and week_day) or (either and (month_day or week_day)):
                        return True
        return False

    def _tod_at_or_after(self, tod: int) -> int:
        """The first matching second of the day at or after ``tod``, or -1."""
        hour, rest = divmod(tod, 3600)
        if self._hours >> hour & 1:
            minute, second = divmod(rest, 60)
            if self._minutes >> minute & 1:
                later = self._seconds >> second
                if later:
                    return tod + _lowest(later)
            later = self._minutes >> (minute + 1)
            if later:
                return hour * 3600 + (minute + 1 + _lowest(later)) * 60 + self._first_second
        later = self._hours >> (hour + 1)
        if later:
            return (hour + 1 + _lowest(later)) * 3600 + self._first_tod % 3600
        return -1

    def _rank(self, tod: int) -> int:
        """How many matching seconds of a day lie before ``tod``."""
        hour, rest = divmod(tod, 3600)
        count = (self._hours & ((1 << hour) - 1)).bit_count() * self._per_hour
        if self._hours >> hour & 1:
            minute, second = divmod(rest, 60)
            before = (self._minutes & ((1 << minute) - 1)).bit_count()
            count += before * self._seconds.bit_count()
            if self._minutes >> minute & 1:
                count += (self._seconds & ((1 << second) - 1)).bit_count()
        return count

    def _day_at_or_after(self, day: int) -> int | None:
        """The first matching day number (days since 1970-01-01) at or after ``day``."""
        ordinal = day + _EPOCH_ORDINAL
        if ordinal > date.max.toordinal():
            return None
        start = date.fromordinal(ordinal)
        year, month = start.year, start.month
        later = self._month_mask(year, month) >> start.day
        if later:
            return day + _lowest(later)
        while True:
            month += 1
            if month > 12:
                year, month = year + 1, 1
                if year > _LAST_YEAR:
                    return None
            mask = self._month_mask(year, month)
            if mask:
                return date(year, month, _lowest(mask)).toordinal() - _EPOCH_ORDINAL

    def _count_days(self, first: int, end: int) -> int:
        """How many days in ``[first, end)`` match."""
        count = 0
        while first < end:
            start = date.fromordinal(first + _EPOCH_ORDINAL)
            length = monthrange(start.year, start.month)[1]
            stop = min(end, first + length - start.day + 1)
            mask = self._month_mask(start.year, start.month) >> start.day
            count += (mask & ((1 << (stop - first)) - 1)).bit_count()
            first = stop
        return count

    def _month_mask(self, year: int, month: int) -> int:
        """Bit d set when day d of the month matches."""
        if not self._months >> month & 1:
            return 0
        key = monthrange(year, month)
        mask = self._month_masks.get(key)
        if mask is None:
            month_day, week_day = self._match_days(*key)
            mask = self._month_masks[key] = month_day | week_day
        return mask

    def _match_days(self, first_weekday: int, length: int) -> tuple[int, int]:
        """The days of a month of this shape, by each side of the OR of the day fields.

        Day of month and day of week are joined by OR when both are restricted, by AND
        otherwise (the two sides are then the same). ``#`` and ``W`` stay part of both
        sides, which is croniter's rule. The shape is as :func:`calendar.monthrange` gives
        it, with weekdays counted from Monday.
        """
        first_weekday = (first_weekday + 1) % _DAYS_IN_WEEK  # cron counts from Sunday
        every = (1 << (length + 1)) - 2
        fields: Sequence[Sequence[int | str]] = self._parsed.expanded
        days, weekdays = fields[_DAY], fields[_WEEKDAY]
        nth, nearest = self._parsed.nth_weekday_of_month, self._parsed.nearest_weekday
        dom, dow = every, every
        if nearest:
            dom = 0
            for day in nearest:
                dom |= 1 << _nearest_weekday(int(day), first_weekday, length)
        elif "*" not in days:
            dom = _mask([length if day == "l" else day for day in days], _DAY) & every
        if nth:
            dow = _nth_weekdays(nth, first_weekday, length)
        elif "*" not in weekdays:
            dow = 0
            for day in range(1, length + 1):
                if (first_weekday + day - 1) % _DAYS_IN_WEEK in weekdays:
                    dow |= 1 << day
        if "*" in days or "*" in weekdays:
            return dom & dow, dom & dow
        return dom & (dow if nth else every), dow & (dom if nearest else every)


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _mask(values: Sequence[int | str], field: int) -> int:
    low, high = _ALL_BITS[field]
    if "*" in values:
        return (1 << (high + 1)) - (1 << low)
    mask = 0
    for value in values:
        mask |= 1 << int(value)
    return mask


def _nth_weekdays(
    nth: Mapping[int, AbstractSet[int | str]], first_weekday: int, length: int
) -> int:
    """Days that are the n-th (``#``) or the last (``L``) of a weekday in the month."""
    mask = 0
    for weekday, ordinals in nth.items():
        first = 1 + (weekday - first_weekday) % _DAYS_IN_WEEK
        for n in ordinals:
            if n == "l":
                day = first + (length - first) // _DAYS_IN_WEEK * _DAYS_IN_WEEK
            else:
                day = first + (int(n) - 1) * _DAYS_IN_WEEK
            if day <= length:
                mask |= 1 << day
    return mask


def _nearest_weekday(day: int, first_weekday: int, length: int) -> int:
    """The working day nearest to ``day`` (``W``), never leaving the month."""
    day = min(day, length)
    weekday = (first_weekday + day - 1) % _DAYS_IN_WEEK
    if weekday == _SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == _SUNDAY:
        return day + 1 if day < length else day - 2
    return day


def spreads_by_task(expression: str) -> bool:
    """Whether the expression has an ``H`` field, so that its times depend on the task id."""
    return any(_HASHED.match(field) for field in expression.lower().split())


@lru_cache(maxsize=4096)
def compile_cron(expression: str, hash_id: str | None) -> CronSchedule:
    """Parse an expression; ``hash_id`` is what ``H`` is resolved with, None without ``H``.

    Raises:
        ConfigurationError: the expression is malformed, or matches no date at all.
    """
    fields = expression.lower().split()
    is_alias = len(fields) == 1 and fields[0].startswith("@")
    if not is_alias and len(fields) not in (_FIELDS, _FIELDS_WITH_SECONDS):
        raise _refused(expression, f"it has {len(fields)} fields")
    if any(_RANDOM.match(field) for field in fields):
        raise _refused(expression, "R would differ between processes; use H")
    day_at = len(fields) - 3
    if not is_alias and fields[day_at] == "h":
        fields[day_at] = "h(1-28)"
    try:
        parsed = croniter(" ".join(fields), 0.0, hash_id=hash_id, second_at_beginning=True)
    except ValueError as exc:  # the base of croniter's own errors
        raise _refused(expression, str(exc)) from exc
    schedule = CronSchedule(parsed)
    if not schedule.fires_ever():
        raise _refused(expression, "it matches no date of the calendar, so it never fires")
    return schedule


def _refused(expression: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"cron={expression!r} is not accepted: {reason}; {_ACCEPTED}")
