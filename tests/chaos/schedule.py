"""Which ticks were due, worked out from what was asked for and never from what was recorded.

A task of these runs ticks on a grid: an interval from where it was anchored, a cron of the form
`*/n * * * * *` on multiples of n seconds (n divides 60). A grid begins with TASK_ADDED or
TASK_RESUMED, whose snapshot tells its first tick, and ends with TASK_PAUSED or with the task.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from quiv_dist.core.wire import Envelope, TaskWire

_EVERY_SECONDS = re.compile(r"\*(?:/(\d+))? \* \* \* \* \*")


@dataclass(frozen=True)
class Span:
    """Ticks of one grid: `first_ms` to `until_ms`, the latter excluded; ms.

    `overdue_ms` is how long the first tick left out had been due when the grid ended.
    """

    first_ms: int
    until_ms: int
    step_ms: int
    overdue_ms: int

    def ticks(self) -> range:
        return range(self.first_ms, self.until_ms, self.step_ms)


def step_ms(task: TaskWire) -> int:
    """Return the period of a task's grid; 0 for one that has none."""
    if task.cron is not None:
        found = _EVERY_SECONDS.fullmatch(task.cron)
        assert found, f"the schedule {task.cron!r} is not worked out here"
        return int(found[1] or 1) * 1000
    if task.interval_seconds is None or not task.fixed_interval:
        return 0
    return round(task.interval_seconds * 1000)


def spans(changes: list[Envelope], end_ms: int, pending_ms: int | None) -> list[Span]:
    """Return the grids of a task.

    Args:
        changes: its TASK_ADDED, TASK_PAUSED, TASK_RESUMED, TASK_REMOVED events, in log order.
        end_ms: when the run was looked at.
        pending_ms: the tick that the task waits for then, `None` when it waits for none.

    """
    found: list[Span] = []
    first_ms: int | None = None
    for event in changes:
        task = event.task
        assert task is not None
        if event.type in {"task_added", "task_resumed"}:
            first_ms = task.next_run_at_ms
            if task.cron is not None:
                assert first_ms % step_ms(task) == 0, "a cron tick that is not on its grid"
        elif first_ms is not None:
            until_ms = max(first_ms, task.next_run_at_ms)
            overdue_ms = event.at_ms - task.next_run_at_ms
            found.append(Span(first_ms, until_ms, step_ms(task), overdue_ms))
            first_ms = None
    if first_ms is not None and pending_ms is not None:
        task = changes[-1].task
        assert task is not None
        overdue_ms = end_ms - pending_ms
        found.append(Span(first_ms, max(first_ms, pending_ms), step_ms(task), overdue_ms))
    return found
