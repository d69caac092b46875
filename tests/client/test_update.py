"""update_task, remove_task, pause_task, resume_task."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quiv_dist import (
    ConfigurationError,
    Event,
    HandlerRegistrationError,
    Quiv,
    TaskNotActiveError,
    TaskNotFoundError,
    TaskRunningError,
)
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard, eventually


def _now() -> datetime:
    """Return the time in whole milliseconds, as the store keeps it, rounded down."""
    found = datetime.now(UTC)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def ended(face: Any, task_id: str, count: int = 1) -> Any:
    """Wait until so many jobs of a task have ended; return the last of them."""
    found = eventually(
        lambda: [
            job for job in face.get_all_jobs(task_id=task_id, descending=False) if job.ended_at
        ][count - 1 :],
        "the end of the job",
    )
    return found[0]


def finish(face: Any, task_id: str) -> Any:
    """Let the job that waits at the gate go on; return it when it has ended."""
    (job,) = face.get_all_jobs(task_id=task_id)
    jobs.open_gate("g")
    return face.wait_for_job(job.id, LIMIT_S)


class TestUpdate:
    def test_only_what_is_passed_changes(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, interval=60, delay=60, args=(1,), kwargs={"k": 1})
        before = face.get_task(task_id)
        after = face.update_task(
            task_id, task_name="b", timeout=5, max_retries=2, retry_backoff=7, jitter=1,
            kwargs={"k": 2},
        )  # fmt: skip
        assert after == face.get_task(task_id)
        assert after == before.model_copy(
            update={
                "task_name": "b", "timeout_seconds": 5, "max_retries": 2, "jitter_seconds": 1,
                "retry_backoff_seconds": 7, "kwargs": {"k": 2}, "revision": before.revision + 1,
            }
        )  # fmt: skip
        assert face.update_task(task_id, timeout=None).timeout_seconds is None

    def test_a_new_interval_counts_from_now(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, interval=3600, delay=3600)
        before = _now()
        task = face.update_task(task_id, interval=60)
        assert (
            timedelta(0) <= task.next_run_at - before - timedelta(seconds=60) < timedelta(seconds=5)
        )
        assert task.interval_seconds == 60

    def test_run_at_moves_the_next_run_only(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, interval=3600, delay=3600)
        face.update_task(task_id, run_at=datetime(1999, 1, 1))  # noqa: DTZ001 - naive is UTC
        assert ended(face, task_id).status == "completed"
        task = face.get_task(task_id)
        assert task.interval_seconds == 3600
        assert task.next_run_at - _now() > timedelta(minutes=59)

    def test_run_at_on_a_running_task_is_kept(self, face: Any) -> None:
        at = _now() + timedelta(hours=2)
        task_id = face.add_task("a", jobs.held, interval=3600, args=("g",))
        assert jobs.has_started("g")
        assert face.update_task(task_id, run_at=at).status == "running"
        finish(face, task_id)
        assert abs(face.get_task(task_id).next_run_at - at) < timedelta(milliseconds=1)

    def test_run_at_on_a_running_task_counted_from_its_end_is_kept(self, quiv: Quiv) -> None:
        at = _now() + timedelta(hours=2)
        task_id = quiv.add_task("a", jobs.held, interval=60, fixed_interval=False, args=("g",))
        assert jobs.has_started("g")
        quiv.update_task(task_id, run_at=at)
        finish(quiv, task_id)
        assert abs(quiv.get_task(task_id).next_run_at - at) < timedelta(milliseconds=1)

    def test_run_at_on_a_running_run_once_task_is_kept(self, quiv: Quiv) -> None:
        at = _now() + timedelta(hours=2)
        task_id = quiv.add_task("a", jobs.held, run_once=True, args=("g",))
        assert jobs.has_started("g")
        quiv.update_task(task_id, run_at=at)
        finish(quiv, task_id)
        assert abs(quiv.get_task(task_id).next_run_at - at) < timedelta(milliseconds=1)

    def test_the_event_comes_with_the_task_after_it(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, interval=60, delay=60)
        heard = Heard()
        face.add_listener(Event.TASK_UPDATED, heard)
        task = face.update_task(task_id, task_name="b")
        (call,) = heard.wait_for(Event.TASK_UPDATED)
        assert call.payload == (task,)

    def test_nothing_to_change_still_dispatches_here(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, interval=60, delay=60)
        before = face.get_task(task_id)
        heard = Heard()
        face.add_listener(Event.TASK_UPDATED, heard)
        assert face.update_task(task_id) == before
        heard.wait_for(Event.TASK_UPDATED)

    def test_a_pinned_task_gets_its_new_arguments(self, quiv: Quiv) -> None:
        seen: list[Any] = []
        first, second = object(), object()
        task_id = quiv.add_task("p", lambda x: seen.append(x), interval=60, args=(first,))  # noqa: PLW0108
        ended(quiv, task_id)
        quiv.update_task(task_id, args=(second,))
        quiv.run_task_immediately(task_id)
        ended(quiv, task_id, 2)
        assert seen == [first, second]

    @pytest.mark.parametrize(
        ("changes", "names"),
        [
            ({"interval": 0}, "interval=0"),
            ({"interval": None}, "interval=None"),
            ({"task_name": " "}, "task_name=' '"),
            ({"args": [1]}, "args=\\[1\\]"),
            ({"kwargs": []}, "kwargs=\\[\\]"),
            ({"timeout": 0}, "timeout=0"),
            ({"max_retries": -1}, "max_retries=-1"),
            ({"retry_backoff": 0}, "retry_backoff=0"),
            ({"jitter": -1}, "jitter=-1"),
            ({"run_at": "noon"}, "run_at='noon'"),
            ({"kwargs": {"job_id": 1}}, "job_id"),
            ({"args": (object(),)}, "args"),
            (
                {"run_at": datetime(2030, 1, 1, tzinfo=UTC), "interval": 60},
                "mutually exclusive",
            ),
        ],
    )
    def test_a_value_that_is_not_accepted_changes_nothing(
        self, quiv: Quiv, changes: dict[str, Any], names: str
    ) -> None:
        task_id = quiv.add_task("a", jobs.all_three, interval=60, delay=60)
        before = quiv.get_task(task_id)
        with pytest.raises(ConfigurationError, match=names):
            quiv.update_task(task_id, **changes)
        assert quiv.get_task(task_id) == before

    def test_a_callback_that_cannot_be_called(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, interval=60, delay=60)
        with pytest.raises(HandlerRegistrationError, match="progress_callback='x'"):
            face.update_task(task_id, progress_callback="x")

    def test_an_unknown_task(self, face: Any) -> None:
        with pytest.raises(TaskNotFoundError, match="'nobody'"):
            face.update_task("nobody", task_name="b")


class TestRemove:
    def test_the_event_carries_the_task_before_it(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, interval=60, delay=60, args=(1,))
        before = face.get_task(task_id)
        heard = Heard()
        face.add_listener(Event.TASK_REMOVED, heard)
        face.remove_task(task_id)
        (call,) = heard.wait_for(Event.TASK_REMOVED)
        assert call.payload == (before,)
        with pytest.raises(TaskNotFoundError, match=task_id):
            face.remove_task(task_id)

    def test_running_jobs_are_asked_to_stop_wherever_they_run(self, make: Make) -> None:
        worker, other = make(handlers=[jobs.polite]), make(roles={"listener"})
        worker.start()
        task_id = other.add_task("a", jobs.polite, interval=60)
        assert jobs.has_started("polite")
        (job,) = other.get_all_jobs(task_id=task_id)
        other.remove_task(task_id)
        assert other.wait_for_job(job.id, LIMIT_S).status == "cancelled"
        assert jobs.reasons["polite"] == "cancel"

    def test_queued_runs_are_cancelled(self, make: Make) -> None:
        scheduler = make(roles={"scheduler"})
        scheduler.start()
        heard = Heard()
        scheduler.add_listener(Event.JOB_SCHEDULED, heard)
        scheduler.add_listener(Event.JOB_CANCELLED, heard)
        task_id = scheduler.add_task("a", jobs.note, interval=60)
        heard.wait_for(Event.JOB_SCHEDULED)
        scheduler.remove_task(task_id)
        heard.wait_for(Event.JOB_CANCELLED)
        (job,) = scheduler.get_all_jobs(task_id=task_id)
        assert job.status == "cancelled"


class TestPause:
    def test_a_paused_task_fires_nothing_until_it_is_resumed(self, face: Any) -> None:
        heard = Heard()
        for kind in (Event.TASK_PAUSED, Event.TASK_RESUMED):
            face.add_listener(kind, heard)
        task_id = face.add_task("a", jobs.note, interval=0.05, delay=60)
        face.pause_task(task_id, reason="deploy")
        task = face.get_task(task_id)
        assert (task.status, task.pause_reason) == ("paused", "deploy")
        with pytest.raises(TaskNotActiveError, match="paused") as refusal:
            face.run_task_immediately(task_id)
        assert not isinstance(refusal.value, TaskRunningError)
        face.resume_task(task_id)
        assert face.wait_for_task(task_id, LIMIT_S).status == "completed"
        calls = heard.wait_for(Event.TASK_PAUSED, Event.TASK_RESUMED)
        assert [call.payload[0].status for call in calls] == ["paused", "active"]
        assert face.get_task(task_id).pause_reason is None

    def test_pausing_again_still_dispatches_here(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, interval=60, delay=60)
        face.pause_task(task_id)
        heard = Heard()
        face.add_listener(Event.TASK_PAUSED, heard)
        face.pause_task(task_id)
        heard.wait_for(Event.TASK_PAUSED)

    def test_a_running_job_finishes(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.held, interval=0.05, args=("g",))
        assert jobs.has_started("g")
        face.pause_task(task_id)
        with pytest.raises(TaskRunningError):
            face.resume_task(task_id)
        assert finish(face, task_id).status == "completed"
        assert face.get_task(task_id).status == "paused"
        assert len(face.get_all_jobs(task_id=task_id)) == 1

    def test_resuming_anchors_the_grid_at_now_and_delay(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, interval=3600, delay=3600)
        face.pause_task(task_id)
        before = _now()
        face.resume_task(task_id, delay=100)
        distance = face.get_task(task_id).next_run_at - before
        assert timedelta(seconds=100) <= distance + timedelta(milliseconds=1)
        assert distance < timedelta(seconds=105)

    def test_a_cron_resumes_at_its_next_time(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, cron="0 9 * * *")
        before = face.get_task(task_id)
        face.pause_task(task_id)
        face.resume_task(task_id)
        assert face.get_task(task_id).next_run_at == before.next_run_at
        face.pause_task(task_id)
        face.resume_task(task_id, delay=0.05)
        face.wait_for_task(task_id, LIMIT_S)
        assert face.get_task(task_id).next_run_at == before.next_run_at

    def test_unknown_tasks_and_bad_delays(self, face: Any) -> None:
        with pytest.raises(TaskNotFoundError):
            face.pause_task("nobody")
        with pytest.raises(TaskNotFoundError):
            face.resume_task("nobody")
        task_id = face.add_task("a", jobs.note, interval=60, delay=60)
        with pytest.raises(ConfigurationError, match="delay=-1"):
            face.resume_task(task_id, delay=-1)
        with pytest.raises(ConfigurationError, match="reason=''"):
            face.pause_task(task_id, reason="")


class TestRunImmediately:
    def test_an_interval_is_brought_forward_and_anchored_there(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, interval=3600, delay=3600)
        assert face.run_task_immediately(task_id) == 1
        job = ended(face, task_id)
        distance = face.get_task(task_id).next_run_at - job.scheduled_for
        assert distance == timedelta(seconds=3600)

    def test_a_cron_gets_an_extra_run(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, cron="0 9 * * *")
        before = face.get_task(task_id)
        assert face.run_task_immediately(task_id) == 1
        job = ended(face, task_id)
        assert (job.status, job.run_kind) == ("completed", "now")
        assert face.get_task(task_id).next_run_at == before.next_run_at

    def test_a_run_once_task_is_brought_forward(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.note, run_once=True, delay=3600)
        face.run_task_immediately(task_id)
        assert face.wait_for_task(task_id, LIMIT_S).status == "completed"
        with pytest.raises(TaskNotFoundError):
            face.run_task_immediately(task_id)

    def test_it_is_refused_beside_a_live_run(self, face: Any) -> None:
        task_id = face.add_task("a", jobs.held, interval=60, args=("g",))
        assert jobs.has_started("g")
        with pytest.raises(TaskRunningError, match=task_id):
            face.run_task_immediately(task_id)
