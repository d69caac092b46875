"""Triggers: when a task is meant to run, as arithmetic on milliseconds.

All times are integer milliseconds since the epoch, UTC. A *nominal* time is what the
schedule says; the *due* time is the nominal time plus jitter. Ids, high-water marks and
journals speak of nominal times, only the due set knows due times.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, Literal, get_args

import msgspec

from quiv_dist.core.cron import compile_cron, spreads_by_task
from quiv_dist.core.dst import CronTimetable, Fold, Gap, load_zone, unknown_zone
from quiv_dist.core.jitter import jitter_ms
from quiv_dist.exceptions import ConfigurationError

LATEST_MS: Final = 253_402_214_399_999
"""The latest storable instant, 9999-12-30T23:59:59.999Z: a day before the calendar ends,
so that every zone can show it."""

EARLIEST_MS: Final = -62_135_424_000_000
"""0001-01-03T00:00Z, the earliest instant cron looks from; two days in, for the same reason."""

MIN_INTERVAL_S: Final = 0.01


class Trigger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a task runs. Equal encoded bytes mean the same trigger.

    Attributes:
        kind: which of the fields below count.
        interval_ms: the period, 10 or more.
        fixed_interval: on a grid (True), or counted from the end of each run (False).
        cron: the expression, fields separated by one space.
        timezone: the IANA name that ``cron`` is read in.
        dst_gap: what a fixed time does in a gap, see :mod:`quiv_dist.core.dst`.
        dst_fold: what a fixed time does in a fold.
        jitter_ms: the bound of the jitter.
    """

    kind: Literal["interval", "cron", "once"]
    interval_ms: int | None = None
    fixed_interval: bool = True
    cron: str | None = None
    timezone: str = "UTC"
    dst_gap: Gap = "fire"
    dst_fold: Fold = "first"
    jitter_ms: int = 0


def interval_trigger(seconds: float, *, fixed: bool, jitter_s: float) -> Trigger:
    """A trigger for every ``seconds``, rounded to the millisecond.

    Raises:
        ConfigurationError: not a finite number, below 0.01, or a bad jitter.
    """
    return Trigger(
        kind="interval",
        interval_ms=_milliseconds("interval", seconds, minimum_s=MIN_INTERVAL_S),
        fixed_interval=fixed,
        jitter_ms=_milliseconds("jitter", jitter_s, minimum_s=0),
    )


def cron_trigger(
    expr: str,
    *,
    timezone: str,
    jitter_s: float,
    dst_gap: Gap = "fire",
    dst_fold: Fold = "first",
) -> Trigger:
    """A trigger for a cron expression in a time zone.

    Raises:
        InvalidTimezoneError: the zone is unknown.
        ConfigurationError: the expression is malformed or never fires, or another
            argument is not accepted.
    """
    if not _is_string(expr):
        raise ConfigurationError(f"cron={expr!r} is not accepted: it must be a string")
    if not _is_string(timezone):
        raise unknown_zone(timezone)
    zone = "UTC" if load_zone(timezone) is None else timezone
    expression = " ".join(expr.split())
    # Any id does to check the syntax; the times of an H are those of the task's own id.
    compile_cron(expr, "" if spreads_by_task(expr) else None)
    if dst_gap not in get_args(Gap):
        raise ConfigurationError(f"dst_gap={dst_gap!r} is not accepted: one of {get_args(Gap)}")
    if dst_fold not in get_args(Fold):
        raise ConfigurationError(f"dst_fold={dst_fold!r} is not accepted: one of {get_args(Fold)}")
    return Trigger(
        kind="cron",
        cron=expression,
        timezone=zone,
        dst_gap=dst_gap,
        dst_fold=dst_fold,
        jitter_ms=_milliseconds("jitter", jitter_s, minimum_s=0),
    )


def once_trigger() -> Trigger:
    """A trigger with one tick, whose time is kept with the task and not here."""
    return Trigger(kind="once")


def next_nominal(trigger: Trigger, after_ms: int, anchor_ms: int, task_id: str) -> int | None:
    """The first nominal time strictly after ``after_ms``, or None when there is none.

    ``interval``: on the grid ``anchor_ms + k * interval`` with k >= 0, so the first is the
    anchor itself. A slot past :data:`LATEST_MS` is clamped to it: an interval never ends.
    ``cron``: the anchor is ignored, ``H`` is resolved by the task id, None past
    :data:`LATEST_MS`. ``once``: None.

    Raises:
        ConfigurationError: the stored expression or zone is not accepted here (another
            version wrote it, or this machine lacks the zone), or its ``H`` fields resolve
            to a date that does not exist.
    """
    if after_ms >= LATEST_MS or trigger.kind == "once":
        return None
    if trigger.kind == "interval":
        period_ms = _period_ms(trigger)
        slots = max(0, (after_ms - anchor_ms) // period_ms + 1)
        return min(anchor_ms + slots * period_ms, LATEST_MS)
    found_s = _timetable(trigger, task_id).next_after(max(after_ms, EARLIEST_MS) // 1000)
    if found_s is None or found_s * 1000 > LATEST_MS:
        return None
    return found_s * 1000


def newest_nominal(
    trigger: Trigger, known_ms: int, upto_ms: int, anchor_ms: int, task_id: str
) -> int:
    """The last nominal time at or before ``upto_ms``, given one known to exist before it.

    Returns ``known_ms`` itself when nothing comes after it in time. Costs a few dozen
    look-ups for cron, whatever the distance.
    """
    following = next_nominal(trigger, known_ms, anchor_ms, task_id)
    if following is None or following > upto_ms:
        return known_ms
    if trigger.kind == "interval":
        return upto_ms - (upto_ms - anchor_ms) % _period_ms(trigger)
    # "The next tick after x is not past upto" holds up to the newest tick and fails from
    # there on, so the newest tick is where it stops: a bisection.
    holds_ms, fails_ms = known_ms, upto_ms
    while fails_ms - holds_ms > 1:
        middle_ms = (holds_ms + fails_ms) // 2
        candidate = next_nominal(trigger, middle_ms, anchor_ms, task_id)
        if candidate is not None and candidate <= upto_ms:
            following, holds_ms = candidate, candidate - 1
        else:
            fails_ms = middle_ms
    return following


def count_nominals(
    trigger: Trigger, after_ms: int, upto_ms: int, anchor_ms: int, task_id: str
) -> int:
    """How many nominal times lie in ``(after_ms, upto_ms]``, exactly, without listing them."""
    if upto_ms <= after_ms or trigger.kind == "once":
        return 0
    if trigger.kind == "interval":
        period_ms = _period_ms(trigger)
        from_ms = max(after_ms, anchor_ms - 1)
        return max(0, (upto_ms - anchor_ms) // period_ms - (from_ms - anchor_ms) // period_ms)
    return _timetable(trigger, task_id).count(
        max(after_ms, EARLIEST_MS) // 1000, min(upto_ms, LATEST_MS) // 1000
    )


def due_of(trigger: Trigger, task_id: str, nominal_ms: int) -> int:
    """When a nominal time is due: with its jitter, which stays short of the next nominal."""
    bound_ms = trigger.jitter_ms
    if not bound_ms:
        return nominal_ms
    if trigger.kind == "interval":
        bound_ms = min(bound_ms, _period_ms(trigger) - 1)
    elif trigger.kind == "cron":
        following = next_nominal(trigger, nominal_ms, nominal_ms, task_id)
        if following is not None:
            bound_ms = min(bound_ms, following - nominal_ms - 1)
    return min(nominal_ms + jitter_ms(task_id, nominal_ms, bound_ms), LATEST_MS)


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _milliseconds(name: str, seconds: float, *, minimum_s: float) -> int:
    accepted = f"a finite number of seconds, {minimum_s} or more"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(f"{name}={seconds!r} is not accepted: {accepted}")
    # A NaN fails every comparison, so the test is for what is accepted.
    if not minimum_s <= seconds or seconds == math.inf:
        raise ConfigurationError(f"{name}={seconds!r} is not accepted: {accepted}")
    # Longer than all of time is accepted, as in quiv, and kept storable.
    return LATEST_MS if seconds >= LATEST_MS / 1000 else round(seconds * 1000)


def _period_ms(trigger: Trigger) -> int:
    if not trigger.interval_ms or trigger.interval_ms < 0:
        raise ConfigurationError(f"interval_ms={trigger.interval_ms!r} is not a period")
    return trigger.interval_ms


def _timetable(trigger: Trigger, task_id: str) -> CronTimetable:
    expression = trigger.cron or ""
    return _cached_timetable(
        expression,
        trigger.timezone,
        trigger.dst_gap,
        trigger.dst_fold,
        task_id if _spreads(expression) else None,
    )


_spreads = lru_cache(maxsize=4096)(spreads_by_task)


@lru_cache(maxsize=4096)
def _cached_timetable(
    expression: str, zone: str, gap: Gap, fold: Fold, hash_id: str | None
) -> CronTimetable:
    return CronTimetable(compile_cron(expression, hash_id), load_zone(zone), gap, fold)
