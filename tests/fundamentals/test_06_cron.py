"""Chapter 6. Cron: five fields, six with seconds first, read in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from quiv_dist import ConfigurationError, Quiv


def report() -> None:
    """What is due at nine."""


def test_nine_on_weekdays_in_paris(quiv: Quiv) -> None:
    task_id = quiv.add_task("report", report, cron="0 9 * * mon-fri", cron_timezone="Europe/Paris")
    due = quiv.get_task(task_id).next_run_at
    assert due > datetime.now(UTC)
    there = due.astimezone(ZoneInfo("Europe/Paris"))
    assert (there.hour, there.minute) == (9, 0)
    assert there.weekday() < 5


def test_seconds_first(quiv: Quiv) -> None:
    quiv.start()
    task_id = quiv.add_task("report", report, cron="*/1 * * * * *")
    job = quiv.wait_for_task(task_id, timeout=20)
    assert job.scheduled_for is not None
    assert job.scheduled_for.microsecond == 0


def test_a_cron_that_never_fires_is_refused(quiv: Quiv) -> None:
    with pytest.raises(ConfigurationError, match="0 0 30 2"):
        quiv.add_task("report", report, cron="0 0 30 2 *")


def test_declared_beside_the_function(quiv: Quiv) -> None:
    quiv.task(cron="@daily")(report)
    quiv.start()
    (task,) = quiv.get_all_tasks()
    assert task.id == f"{report.__module__}:report"
