"""From wall-clock time to instants: the daylight-saving rules of cron.

A clock change is either a *gap* (the wall clock jumps forward, some wall times never
happen) or a *fold* (it jumps back, some happen twice). What a cron tick does there
depends on whether the expression names fixed times:

=====================  ============================  ==================================
expression             wall time in a gap            wall time in a fold
=====================  ============================  ==================================
fixed time             ``gap="fire"``: once, at the  ``fold="first"``: in the first
(second, minute and    first instant after the gap;  pass; ``"second"``: in the second
hour are all numbers   ``"skip"``: not at all        pass; ``"both"``: in both
and plain ranges)
elapsed time (any of   not at all                    in both passes
the three has ``*``
or a step)
=====================  ============================  ==================================

"Elapsed time" needs no rule of its own: an instant fires when the wall clock, as it
reads at that instant, matches. So it is ``gap="skip", fold="both"``, and the two options
do not touch such expressions. The mixed cases follow from "any": ``*/15 2 * * *`` and
``0 */2 * * *`` are elapsed time, ``0,30 1-3 * * *`` is fixed, a range over the whole
field (``0 0-23 * * *``) is ``*``. Day, month and weekday fields never matter; they
are read from the wall date. Several fixed times in one gap are one tick, and so are a
time in the gap and one at its end, because ticks are instants. A day that a zone skipped
(Samoa, 2011-12-30) is a gap like any other.

Only offsets count, never the DST flag, so negative DST (Ireland), half-hour DST
(Lord Howe) and changes of standard time are all the same case.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

from quiv_dist.core.cron import DAY_S, CronSchedule
from quiv_dist.exceptions import InvalidTimezoneError

Gap = Literal["fire", "skip"]
Fold = Literal["first", "second", "both"]

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the wall clock has no zone
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
# How far apart a year is sampled for changes. The closest two of any zone are four days
# apart (Sierra Leone, 1939), since 1970 a week.
_SAMPLE_S: Final = DAY_S


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo | None:
    """The zone of an IANA name; None stands for UTC, which needs no rules.

    ``UTC``, ``GMT`` and ``Z`` are accepted in any case. ``localtime`` is refused: its
    meaning differs between machines.

    Raises:
        InvalidTimezoneError: the name is unknown or not a name.
    """
    if name.strip().upper() in {"UTC", "GMT", "Z"}:
        return None
    if not name or name == "localtime":
        raise unknown_zone(name)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:  # unknown; malformed; a directory
        raise unknown_zone(name) from exc


def unknown_zone(name: object) -> InvalidTimezoneError:
    """The error for a zone that cannot be used."""
    return InvalidTimezoneError(
        f"cron_timezone={name!r} is not a known time zone; accepted are IANA names such as "
        "'Europe/Paris' or 'UTC'"
    )


class CronTimetable:
    """A cron expression in a zone: its ticks as UTC seconds since the epoch."""

    __slots__ = ("_fold", "_gap", "_schedule", "_zone")

    def __init__(self, schedule: CronSchedule, zone: ZoneInfo | None, gap: Gap, fold: Fold) -> None:
        self._schedule = schedule
        self._zone = zone
        self._gap: Gap = gap if schedule.fixed_time else "skip"
        self._fold: Fold = fold if schedule.fixed_time else "both"

    def next_after(self, after_s: int) -> int | None:
        """The first tick strictly after ``after_s``, None past year 9999."""
        zone, next_wall = self._zone, self._schedule.next_wall
        if zone is None:
            return next_wall(after_s)
        offset = _offset_at(zone, after_s)
        wall = after_s + offset
        if self._fold != "first":
            repeat = _offset_of_wall(zone, wall, fold=1)
            if repeat < offset:  # in the first pass of a fold: the wall clock will go back
                change = _change_near(zone, wall, offset, repeat)
                if self._fold == "both":
                    found = next_wall(wall)
                    if found is not None and found < change + offset:
                        return found - offset
                wall = change + repeat - 1
        return self._map_forward(zone, wall, after_s)

    def _map_forward(self, zone: ZoneInfo, wall: int, after_s: int) -> int | None:
        """The instant of the first matching wall time after ``wall`` that is past ``after_s``."""
        found = self._schedule.next_wall(wall)
        while found is not None:
            before = _offset_of_wall(zone, found, fold=0)
            after = _offset_of_wall(zone, found, fold=1)
            if before == after:
                return found - before
            change = _change_near(zone, found, before, after)
            if before < after:
                if self._gap == "fire":
                    return change
                skip_to = change + after
            else:
                first, second = found - before, found - after
                if self._fold != "second" and first > after_s:
                    return first
                if self._fold != "first":
                    return second
                skip_to = change + before
            found = self._schedule.next_wall(skip_to - 1)
        return None

    def count(self, after_s: int, upto_s: int) -> int:
        """How many ticks lie in ``(after_s, upto_s]``, by arithmetic and not by listing."""
        start, end = after_s + 1, upto_s + 1
        if end <= start:
            return 0
        count_walls = self._schedule.count_walls
        if self._zone is None:
            return count_walls(start, end)
        total = 0
        # The segments around the range matter too: they tell whether its ends lie in a fold.
        pieces = _segments(self._zone, start - 2 * DAY_S, end + 2 * DAY_S)
        for index, (opens, offset) in enumerate(pieces):
            closes, following = pieces[index + 1] if index + 1 < len(pieces) else (end, offset)
            previous = pieces[index - 1][1] if index else offset
            low, high = max(opens, start) + offset, min(closes, end) + offset
            if self._fold == "first" and previous > offset:
                low = max(low, opens + previous)
            if self._fold == "second" and following < offset:
                high = min(high, closes + following)
            total += count_walls(low, high)
            if self._gap == "fire" and previous < offset and start <= opens < end:
                lost = count_walls(opens + previous, opens + offset)
                total += bool(lost) and not count_walls(opens + offset, opens + offset + 1)
        return total


def _offset_at(zone: ZoneInfo, at_s: int) -> int:
    """Seconds east of UTC at an instant."""
    delta = (_EPOCH_UTC + timedelta(seconds=at_s)).astimezone(zone).utcoffset()
    return 0 if delta is None else delta.days * DAY_S + delta.seconds


def _offset_of_wall(zone: ZoneInfo, wall_s: int, *, fold: int) -> int:
    """Seconds east of UTC that a wall time is read with (PEP 495).

    The two folds agree unless the wall time is in a fold (the first pass has the larger
    offset) or in a gap (fold 0 has the offset from before it, the smaller one).
    """
    delta = zone.utcoffset((_EPOCH + timedelta(seconds=wall_s)).replace(fold=fold))
    return 0 if delta is None else delta.days * DAY_S + delta.seconds


def _change_near(zone: ZoneInfo, wall_s: int, one: int, other: int) -> int:
    """The instant of the clock change that makes ``wall_s`` missing or ambiguous."""
    return _first_change(zone, wall_s - max(one, other), wall_s - min(one, other))


def _first_change(zone: ZoneInfo, low_s: int, high_s: int) -> int:
    """The first instant in ``(low_s, high_s]`` with another offset than ``low_s`` has."""
    old = _offset_at(zone, low_s)
    while high_s - low_s > 1:
        middle_s = (low_s + high_s) // 2
        if _offset_at(zone, middle_s) == old:
            low_s = middle_s
        else:
            high_s = middle_s
    return high_s


def _segments(zone: ZoneInfo, start_s: int, end_s: int) -> list[tuple[int, int]]:
    """Spans of one offset that cover ``[start_s, end_s)``, each as (first instant, offset)."""
    found = [(start_s, _offset_at(zone, start_s))]
    first_year = (_EPOCH_UTC + timedelta(seconds=start_s)).year
    last_year = (_EPOCH_UTC + timedelta(seconds=end_s)).year
    for year in range(first_year, last_year + 1):
        found += [piece for piece in _changes(zone, year) if start_s < piece[0] < end_s]
    return found


@lru_cache(maxsize=4096)
def _changes(zone: ZoneInfo, year: int) -> tuple[tuple[int, int], ...]:
    """The clock changes of a UTC year, each as (instant, offset from then on)."""
    at_s = (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH_UTC).days * DAY_S - 1
    last_s = (datetime(year, 12, 31, tzinfo=UTC) - _EPOCH_UTC).days * DAY_S + DAY_S - 1
    old = _offset_at(zone, at_s)
    changes: list[tuple[int, int]] = []
    while at_s < last_s:
        to_s = min(at_s + _SAMPLE_S, last_s)
        new = _offset_at(zone, to_s)
        if new != old:
            changes.append((_first_change(zone, at_s, to_s), new))
        at_s, old = to_s, new
    return tuple(changes)
