"""Failed runs that are tried again."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from quiv_dist import Event
from tests.client import jobs
from tests.client.faces import LIMIT_S, Heard, eventually


def _waiting(face: Any, **options: Any) -> Any:
    """Add a task whose first attempt has failed and whose retry waits; return the task."""
    heard = Heard()
    face.add_listener(Event.JOB_RETRYING, heard)
    task_id = face.add_task("flaky", jobs.fail_times, args=("x", 1), max_retries=3, **options)
    heard.wait_for(Event.JOB_RETRYING)
    return face.get_task(task_id)


def test_a_run_is_tried_until_it_succeeds(face: Any) -> None:
    heard = Heard()
    face.add_listener(Event.JOB_COMPLETED, heard)
    task_id = face.add_task(
        "flaky", jobs.fail_times, run_once=True, args=("x", 2), max_retries=5, retry_backoff=0.01
    )
    heard.wait_for(Event.JOB_COMPLETED)
    found = face.get_all_jobs(task_id=task_id, descending=False)
    assert [(job.attempt, job.status) for job in found] == [
        (1, "failed"), (2, "failed"), (3, "completed"),
    ]  # fmt: skip
    assert len({job.run_id for job in found}) == 1


def test_the_backoff_doubles_up_to_its_most(face: Any) -> None:
    heard = Heard()
    face.add_listener(Event.JOB_DEAD, heard)
    task_id = face.add_task(
        "flaky", jobs.fail, run_once=True, max_retries=3, retry_backoff=0.1, retry_backoff_max=0.15
    )
    (dead,) = heard.wait_for(Event.JOB_DEAD)
    found = face.get_all_jobs(task_id=task_id, descending=False)
    assert [job.status for job in found] == ["failed"] * 4
    assert dead.payload[1].id == found[-1].id
    waits = [b.started_at - a.ended_at for a, b in pairwise(found)]
    least = [timedelta(milliseconds=ms) for ms in (99, 149, 149)]
    assert all(wait >= bound for wait, bound in zip(waits, least, strict=True)), waits


def _is_shown_with_its_time(face: Any, task: Any) -> bool:
    (job,) = face.get_all_jobs(task_id=task.id, status="failed")
    assert (task.status, task.retry_attempt) == ("active", 1)
    wait = task.next_run_at - job.ended_at
    return bool(timedelta(seconds=59) < wait < timedelta(seconds=61))


@pytest.mark.parametrize(
    "options",
    [{"interval": 3600, "fixed_interval": False}, {"run_once": True}],
    ids=["from the end", "once"],
)
def test_a_waiting_retry_is_an_active_task_with_its_time(face: Any, options: Any) -> None:
    assert _is_shown_with_its_time(face, _waiting(face, retry_backoff=60, **options))


def test_a_waiting_retry_on_a_grid_too(quiv: Any) -> None:
    assert _is_shown_with_its_time(quiv, _waiting(quiv, retry_backoff=60, interval=3600))


def test_run_immediately_brings_a_waiting_retry_forward(face: Any) -> None:
    task = _waiting(face, interval=3600, retry_backoff=600)
    heard = Heard()
    face.add_listener(Event.JOB_COMPLETED, heard)
    assert face.run_task_immediately(task.id) == 1
    (call,) = heard.wait_for(Event.JOB_COMPLETED)
    assert call.payload[1].attempt == 2
    after = face.get_task(task.id)
    assert (after.status, after.retry_attempt) == ("active", 0)


def test_a_paused_task_holds_its_retry_until_it_is_resumed(face: Any) -> None:
    task = _waiting(face, interval=3600, retry_backoff=0.3)
    face.pause_task(task.id)
    assert face.get_task(task.id).status == "paused"
    heard = Heard()
    face.add_listener(Event.JOB_COMPLETED, heard)
    # A task beside it that is due later than the retry would have been.
    face.wait_for_task(face.add_task("later", jobs.note, run_once=True, delay=0.5), LIMIT_S)
    heard.wait_for(Event.JOB_COMPLETED)
    assert jobs.calls.count("x") == 1
    face.resume_task(task.id)
    eventually(lambda: jobs.calls.count("x") == 2, "the retry")


def test_a_removed_task_is_tried_no_more(face: Any) -> None:
    task = _waiting(face, interval=3600, retry_backoff=600)
    heard = Heard()
    face.add_listener(Event.JOB_CANCELLED, heard)
    face.remove_task(task.id)
    (call,) = heard.wait_for(Event.JOB_CANCELLED)
    assert call.payload[1].attempt == 2
    assert jobs.calls == ["x"]


def test_cancelled_jobs_are_not_tried_again(face: Any) -> None:
    task_id = face.add_task(
        "slow", jobs.polite, run_once=True, timeout=0.05, max_retries=3, retry_backoff=0.01
    )
    assert face.wait_for_task(task_id, LIMIT_S).status == "cancelled"
    assert len(face.get_all_jobs(task_id=task_id)) == 1


def test_a_recurring_task_goes_on_after_its_last_attempt(face: Any) -> None:
    heard = Heard()
    for kind in (Event.JOB_FAILED, Event.JOB_DEAD):
        face.add_listener(kind, heard)
    task_id = face.add_task("bad", jobs.fail, interval=0.1)
    heard.wait_for(*[Event.JOB_FAILED] * 2)
    assert Event.JOB_DEAD not in heard.kinds
    assert face.get_task(task_id).retry_attempt == 0


def test_a_retry_may_be_further_away_than_the_calendar(quiv: Any) -> None:
    task = _waiting(quiv, run_once=True, retry_backoff=1e300)
    assert task.next_run_at.year == 9999
    assert [job.status for job in quiv.get_all_jobs()].count("failed") == 1
