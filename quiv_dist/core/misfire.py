"""Misfire policy: what becomes of a tick that is late, and of those behind it.

:func:`plan_tick` looks at a task whose pending tick is due and decides three things in
one step: which tick fires now, which ticks before it are passed over (and under which
outcome), and which tick comes next. Lateness is measured from the due time, that is,
nominal plus jitter. *Overdue* ticks are those due by now, the pending one first.

=======================  ======================================================
pending tick             what happens
=======================  ======================================================
``once``, or interval    fires, however late. It has no successor: what follows is
counted from the end     armed when the run settles
-----------------------  ------------------------------------------------------
cron, late by no more    fires, as if on time; the next tick follows, in the next
than the grace           plan if it is due too
-----------------------  ------------------------------------------------------
interval, late by no     the newest overdue slot fires, older ones are coalesced
more than the grace      into it
-----------------------  ------------------------------------------------------
beyond the grace,        the oldest overdue tick that is still within its grace
``catch_up="latest"``    fires, else the newest overdue one; older ones are
                         coalesced into it
-----------------------  ------------------------------------------------------
beyond the grace,        the oldest overdue tick fires that is within the window
``catch_up="all"``       and among the newest 1,000 to be made up; older ones are
                         missed
-----------------------  ------------------------------------------------------
beyond the grace,        the oldest overdue tick that is still within its grace
``catch_up="none"``      fires, if there is one; older ones are missed
=======================  ======================================================

So a tick within the grace is never given up for an older one: a failover costs no tick
(intervals apart, whose late slots always coalesce to the newest). Where the only tick to
make up is older than ``catch_up_window``, nothing fires and all overdue ticks are missed.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final, Literal

import msgspec

from quiv_dist.core.triggers import (
    Trigger,
    count_nominals,
    due_of,
    newest_nominal,
    next_nominal,
)

MAX_CATCH_UP: Final = 1_000
"""The most ticks that ``catch_up="all"`` makes up after one outage."""

SLOT_COALESCED: Final = "a newer slot of the interval was due"
TICK_COALESCED: Final = "late beyond misfire_grace, a newer tick was due"
CATCH_UP_NONE: Final = "late beyond misfire_grace, catch_up is none"
WINDOW_EXCEEDED: Final = "older than catch_up_window"
CATCH_UP_FULL: Final = f"older than the newest {MAX_CATCH_UP} ticks to catch up"


class MisfirePolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task's settings for late ticks, in milliseconds."""

    misfire_grace_ms: int = 60_000
    catch_up: Literal["latest", "all", "none"] = "latest"
    catch_up_window_ms: int = 86_400_000


class Passed(msgspec.Struct, frozen=True):
    """A run of consecutive ticks that became no job, and why; one entry of the journal."""

    outcome: Literal["coalesced", "missed"]
    first_ms: int
    last_ms: int
    count: int
    reason: str


class TickPlan(msgspec.Struct, frozen=True):
    """What to do with a task whose pending tick is due.

    Attributes:
        passed: the ticks passed over, from the pending one on; None when it fires itself.
        fire_ms: the nominal time to enqueue, None when nothing fires.
        last_ms: the newest nominal time that this plan covers, the new high-water mark.
        next_nominal_ms: the tick to arm next; None when nothing comes after, or when the
            run's end decides.
        next_due_ms: when that tick is due. It may be due already.
    """

    passed: Passed | None
    fire_ms: int | None
    last_ms: int
    next_nominal_ms: int | None
    next_due_ms: int | None


class _Overdue:
    """The ticks of one task from its pending one to now."""

    def __init__(
        self, trigger: Trigger, task_id: str, nominal_ms: int, anchor_ms: int, now_ms: int
    ) -> None:
        self._trigger = trigger
        self._task_id = task_id
        self._anchor_ms = anchor_ms
        self._now_ms = now_ms
        self.pending_ms = nominal_ms
        self.are_slots = trigger.kind == "interval"

    @cached_property
    def newest_ms(self) -> int:
        """The newest overdue tick."""
        newest_ms = self.upto(self._now_ms)
        if newest_ms > self.pending_ms and self.due(newest_ms) > self._now_ms:
            # Its jitter has still to pass. One step back is enough, for the jitter of the
            # tick before ended short of this one.
            newest_ms = self.upto(newest_ms - 1)
        return newest_ms

    def upto(self, at_ms: int) -> int:
        """The newest tick at or before a time, the pending one at the least."""
        return newest_nominal(self._trigger, self.pending_ms, at_ms, self._anchor_ms, self._task_id)

    def after(self, at_ms: int) -> int | None:
        return next_nominal(self._trigger, at_ms, self._anchor_ms, self._task_id)

    def due(self, nominal_ms: int) -> int:
        return due_of(self._trigger, self._task_id, nominal_ms)

    def count(self, after_ms: int, upto_ms: int) -> int:
        return count_nominals(self._trigger, after_ms, upto_ms, self._anchor_ms, self._task_id)

    def oldest_due_since(self, since_ms: int) -> int | None:
        """The oldest tick due at or after a time, given that the pending one was due before."""
        before_ms = self.upto(since_ms)
        if before_ms != self.pending_ms and self.due(before_ms) >= since_ms:
            return before_ms if before_ms <= self.newest_ms else None
        tick_ms = self.after(before_ms)
        return tick_ms if tick_ms is not None and tick_ms <= self.newest_ms else None

    def newest_of(self, size: int, from_ms: int, upto_ms: int) -> int:
        """The oldest of the newest ``size`` ticks in ``[from_ms, upto_ms]``."""
        if self.count(from_ms - 1, upto_ms) <= size:
            return from_ms
        enough_ms, fewer_ms = from_ms - 1, upto_ms
        while fewer_ms - enough_ms > 1:
            middle_ms = (enough_ms + fewer_ms) // 2
            if self.count(middle_ms, upto_ms) >= size:
                enough_ms = middle_ms
            else:
                fewer_ms = middle_ms
        return fewer_ms


def plan_tick(
    trigger: Trigger,
    policy: MisfirePolicy,
    task_id: str,
    nominal_ms: int,
    due_ms: int,
    anchor_ms: int,
    now_ms: int,
) -> TickPlan:
    """Decide what a due tick becomes; the table is in the module's docstring.

    Every tick from ``nominal_ms`` to ``last_ms`` of the plan is either in ``passed`` or
    the one that fires. The cost does not depend on how many there are.

    Raises:
        ValueError: the tick is not due at ``now_ms``.
        ConfigurationError: the trigger cannot be evaluated, see :func:`next_nominal`.
    """
    if due_ms > now_ms:
        raise ValueError(f"tick {nominal_ms} is due at {due_ms}, which is after {now_ms}")
    if trigger.kind == "once" or not trigger.fixed_interval:
        return TickPlan(None, nominal_ms, nominal_ms, None, None)
    overdue = _Overdue(trigger, task_id, nominal_ms, anchor_ms, now_ms)
    if now_ms - due_ms <= policy.misfire_grace_ms:
        fire_ms: int | None = overdue.newest_ms if overdue.are_slots else nominal_ms
        reason = SLOT_COALESCED
    else:
        fire_ms, reason = _choose_late(policy, overdue, due_ms, now_ms)
    last_ms = overdue.newest_ms if fire_ms is None else fire_ms
    next_ms = overdue.after(last_ms)
    return TickPlan(
        passed=_passed(overdue, fire_ms, reason),
        fire_ms=fire_ms,
        last_ms=last_ms,
        next_nominal_ms=next_ms,
        next_due_ms=None if next_ms is None else overdue.due(next_ms),
    )


def _choose_late(
    policy: MisfirePolicy, overdue: _Overdue, due_ms: int, now_ms: int
) -> tuple[int | None, str]:
    """Which tick fires when the pending one is beyond the grace; why those before do not."""
    in_grace_ms = overdue.oldest_due_since(now_ms - policy.misfire_grace_ms)
    if policy.catch_up == "all":
        return _choose_all(policy, overdue, due_ms, now_ms, in_grace_ms)
    if in_grace_ms is not None and overdue.are_slots:
        in_grace_ms = overdue.newest_ms
    if policy.catch_up == "none":
        return in_grace_ms, CATCH_UP_NONE
    if in_grace_ms is not None:
        return in_grace_ms, TICK_COALESCED
    newest_ms = overdue.newest_ms
    newest_due_ms = due_ms if newest_ms == overdue.pending_ms else overdue.due(newest_ms)
    if now_ms - newest_due_ms > policy.catch_up_window_ms:
        return None, WINDOW_EXCEEDED
    return newest_ms, TICK_COALESCED


def _choose_all(
    policy: MisfirePolicy, overdue: _Overdue, due_ms: int, now_ms: int, in_grace_ms: int | None
) -> tuple[int | None, str]:
    """The oldest tick that is still made up; in_grace_ms is the oldest that needs no making up."""
    window_ms = max(policy.catch_up_window_ms, policy.misfire_grace_ms)
    start_ms: int | None = overdue.pending_ms
    if now_ms - due_ms > window_ms:
        start_ms = overdue.oldest_due_since(now_ms - window_ms)
    if start_ms is None:
        return None, WINDOW_EXCEEDED
    last_ms = overdue.newest_ms if in_grace_ms is None else in_grace_ms - 1
    limited_ms = overdue.newest_of(MAX_CATCH_UP, start_ms, last_ms)
    return limited_ms, WINDOW_EXCEEDED if limited_ms == start_ms else CATCH_UP_FULL


def _passed(overdue: _Overdue, fire_ms: int | None, reason: str) -> Passed | None:
    """The ticks from the pending one up to the one that fires, or all overdue ones."""
    first_ms = overdue.pending_ms
    if fire_ms == first_ms:
        return None
    last_ms = overdue.newest_ms if fire_ms is None else overdue.upto(fire_ms - 1)
    return Passed(
        outcome="coalesced" if reason in (SLOT_COALESCED, TICK_COALESCED) else "missed",
        first_ms=first_ms,
        last_ms=last_ms,
        # The pending tick is counted apart: a moved run time need not be on the schedule.
        count=1 + overdue.count(first_ms, last_ms),
        reason=reason,
    )
