"""add_task: what runs when, and what the stored task says."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from quiv_dist import Event, Quiv, TaskNotFoundError
from quiv_dist.core.jitter import jitter_ms
from quiv_dist.core.wire import to_ms
from quiv_dist.exceptions import HandlerRegistrationError
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard, eventually


def _now() -> datetime:
    """Return the time in whole milliseconds, as the store keeps it, rounded down."""
    found = datetime.now(UTC)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def test_every_parameter_is_kept_with_the_task(face: Any) -> None:
    at = _now() + timedelta(hours=1)
    task_id = face.add_task(
        "report", jobs.note, 60, None, False, False, (1, "two"), {"three": 3.0},
        run_at=at, timeout=5.5, max_retries=2, retry_backoff=1.5, jitter=3, priority="high",
        queue="reports", max_crashes=1,
    )  # fmt: skip
    task = face.get_task(task_id)
    assert (task.id, task.task_name, task.status) == (task_id, "report", "active")
    assert (task.args, task.kwargs) == ((1, "two"), {"three": 3.0})
    assert (task.interval_seconds, task.fixed_interval, task.run_once) == (60.0, False, False)
    assert abs(task.next_run_at - at) < timedelta(milliseconds=1)
    assert (task.timeout_seconds, task.max_retries, task.retry_backoff_seconds) == (5.5, 2, 1.5)
    assert (task.jitter_seconds, task.priority, task.queue, task.max_crashes) == (
        3.0, "high", "reports", 1,
    )  # fmt: skip
    assert (task.handler, task.pinned_to) == ("tests.client.jobs:note", None)
    assert (task.cron, task.retry_attempt) == (None, 0)


def test_an_interval_runs_at_once_and_again(face: Any) -> None:
    heard = Heard()
    face.add_listener(Event.JOB_COMPLETED, heard)
    face.add_task("beat", jobs.note, interval=0.05, args=("x",))
    heard.wait_for(*[Event.JOB_COMPLETED] * 3)
    first, second = (call.payload[1] for call in heard.calls[:2])
    assert second.scheduled_for - first.scheduled_for == timedelta(milliseconds=50)
    assert jobs.calls[0] == (("x",), {})


def test_an_interval_counted_from_the_end_has_no_grid(quiv: Quiv) -> None:
    heard = Heard()
    quiv.add_listener(Event.JOB_COMPLETED, heard)
    quiv.add_task("beat", jobs.held, interval=0.05, fixed_interval=False, args=("gate",))
    assert jobs.has_started("gate")
    threading.Event().wait(0.12)  # longer than the interval: nothing may pile up meanwhile
    released = _now()
    jobs.open_gate("gate")
    heard.wait_for(*[Event.JOB_COMPLETED] * 2)
    second = heard.calls[1].payload[1]
    assert second.scheduled_for >= released + timedelta(milliseconds=49)


def test_a_run_once_task_runs_once_and_is_gone(face: Any) -> None:
    heard = Heard()
    face.add_listener(Event.TASK_ENDED, heard)
    task_id = face.add_task("once", jobs.note, run_once=True)
    assert face.wait_for_task(task_id, LIMIT_S).status == "completed"
    heard.wait_for(Event.TASK_ENDED)
    with pytest.raises(TaskNotFoundError, match=task_id):
        face.get_task(task_id)
    assert len(jobs.calls) == 1


def test_an_interval_of_a_run_once_task_is_ignored(face: Any) -> None:
    task_id = face.add_task("once", jobs.note, interval=-1, delay=60, run_once=True)
    assert face.get_task(task_id).interval_seconds is None


def test_a_delay_puts_the_first_run_off(face: Any) -> None:
    before = _now()
    task_id = face.add_task("later", jobs.note, interval=60, delay=0.2)
    assert face.get_task(task_id).next_run_at >= before + timedelta(milliseconds=199)
    job = face.wait_for_task(task_id, LIMIT_S)
    assert job.started_at >= before + timedelta(milliseconds=199)


@pytest.mark.parametrize(
    "at",
    [
        lambda: datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1),
        lambda: _now() + timedelta(hours=1),
        lambda: _now().astimezone(timezone(timedelta(hours=5))) + timedelta(hours=1),
    ],
    ids=["naive", "utc", "offset"],
)
def test_a_naive_time_is_utc_and_an_aware_one_what_it_says(quiv: Quiv, at: Any) -> None:
    task_id = quiv.add_task("alarm", jobs.note, run_once=True, run_at=at())
    distance = quiv.get_task(task_id).next_run_at - _now()
    assert timedelta(minutes=59) < distance <= timedelta(hours=1)


def test_a_past_time_runs_at_once(face: Any) -> None:
    task_id = face.add_task("missed", jobs.note, run_once=True, run_at=datetime(1999, 1, 1))  # noqa: DTZ001
    assert face.wait_for_task(task_id, LIMIT_S).status == "completed"


def test_a_cron_with_six_fields_has_seconds_first(face: Any) -> None:
    task_id = face.add_task("each second", jobs.note, cron="* * * * * *")
    task = face.get_task(task_id)
    assert task.next_run_at.microsecond == 0
    assert task.next_run_at - _now() <= timedelta(seconds=1)
    job = face.wait_for_task(task_id, LIMIT_S)
    assert (job.status, job.scheduled_for.microsecond) == ("completed", 0)


def test_a_cron_is_read_in_its_own_zone(face: Any) -> None:
    task_id = face.add_task("morning", jobs.note, cron="0 9 * * *", cron_timezone="Asia/Kolkata")
    task = face.get_task(task_id)
    assert (task.cron, task.cron_timezone) == ("0 9 * * *", "Asia/Kolkata")
    assert (task.next_run_at.hour, task.next_run_at.minute) == (3, 30)


def test_the_timeout_cancels_and_says_so(face: Any) -> None:
    task_id = face.add_task("slow", jobs.polite, run_once=True, timeout=0.1)
    job = face.wait_for_task(task_id, LIMIT_S)
    assert (job.status, job.error_message) == ("cancelled", "Job exceeded timeout of 0.1s")


def test_the_injected_values_go_by_the_signature(face: Any) -> None:
    task_id = face.add_task("ids", jobs.ids, run_once=True)
    job = face.wait_for_task(task_id, LIMIT_S)
    assert jobs.calls == [job.id]
    face.wait_for_task(face.add_task("all", jobs.all_three, run_once=True), LIMIT_S)
    assert jobs.calls[1] == ["job_id", "progress_hook", "stop_event"]


def test_jitter_moves_a_run_by_the_same_hash_everywhere(quiv: Quiv) -> None:
    task_id = quiv.add_task("spread", jobs.note, interval=0.2, jitter=0.1)
    quiv.wait_for_task(task_id, LIMIT_S)
    job = quiv.wait_for_task(task_id, LIMIT_S)
    assert job.scheduled_for is not None
    moved = jitter_ms(task_id, to_ms(job.scheduled_for), 100)
    assert 0 <= moved <= 100
    assert job.created_at >= job.scheduled_for + timedelta(milliseconds=moved)


class TestPinned:
    """Functions without an importable name run here and nowhere else."""

    def test_a_lambda_runs_with_arguments_that_never_leave(
        self, quiv: Quiv, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[Any] = []
        mark = object()
        with caplog.at_level(logging.INFO, "Quiv"):
            task_id = quiv.add_task(
                "pinned", lambda x, y: seen.append((x, y)), run_once=True, delay=0.1,
                args=(mark,), kwargs={"y": threading.Lock},
            )  # fmt: skip
        task = quiv.get_task(task_id)
        assert task.pinned_to
        assert task.queue == f"@{task.pinned_to}"
        assert any("pinned" in record.message for record in caplog.records)
        assert quiv.wait_for_task(task_id, LIMIT_S).status == "completed"
        assert seen == [(mark, threading.Lock)]

    def test_bound_methods_and_closures_are_pinned_too(self, face: Any) -> None:
        done = threading.Event()

        def closure() -> None:
            done.set()

        seen: list[int] = []
        first = face.add_task("closure", closure, run_once=True, delay=0.1)
        second = face.add_task("method", seen.append, run_once=True, delay=60, args=(1,))
        assert face.get_task(second).pinned_to == face.get_task(first).pinned_to
        assert face.wait_for_task(first, LIMIT_S).status == "completed"
        assert done.is_set()

    def test_another_instance_does_not_run_it(self, make: Make) -> None:
        owner, other = make(), make()
        other.start()
        seen: list[str] = []
        task_id = owner.add_task(
            "pinned", lambda: seen.append(threading.current_thread().name), interval=0.05
        )
        # Only another instance is started, and it leads: the job waits for its own process.
        job = eventually(lambda: other.get_all_jobs(task_id=task_id), "the job")[0]
        assert job.status == "scheduled"
        assert seen == []
        owner.start()
        assert other.wait_for_job(job.id, LIMIT_S).status == "completed"
        assert job.node_id != other.wait_for_job(job.id).node_id

    def test_it_goes_with_its_process(self, make: Make) -> None:
        owner, other = make(), make()
        owner.start()
        task_id = owner.add_task("pinned", lambda: None, interval=60, delay=60)
        assert other.get_task(task_id).pinned_to
        owner.shutdown()
        with pytest.raises(TaskNotFoundError):
            other.get_task(task_id)

    def test_it_is_refused_without_the_worker_role(self, make: Make) -> None:
        quiv = make(roles={"listener"})
        with pytest.raises(HandlerRegistrationError, match="worker role"):
            quiv.add_task("pinned", lambda: None, interval=60)
        assert quiv.get_all_tasks() == []

    def test_a_refused_upsert_leaves_the_handler_that_is_there(self, quiv: Quiv) -> None:
        first, second = threading.Event(), threading.Event()
        quiv.add_task("p", first.set, interval=60, delay=60, task_id="mine")
        with pytest.raises(Exception, match="is taken"):
            quiv.add_task("p", second.set, interval=60, task_id="mine", if_exists="error")
        assert quiv.add_task("p", second.set, interval=60, task_id="mine", if_exists="keep")
        quiv.run_task_immediately("mine")
        assert first.wait(LIMIT_S)
        assert not second.is_set()


def test_a_handler_that_no_live_worker_serves_is_warned_of_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    client = make(roles={"listener"})
    for _ in range(2):
        client.add_task("a", jobs.note, interval=60)
    warnings = [record.message for record in caplog.records if "serves handler" in record.message]
    assert len(warnings) == 1
    assert "queue default serves handler tests.client.jobs:note" in warnings[0]
    make(handlers=[jobs.nothing]).start()
    caplog.clear()
    client.add_task("b", jobs.nothing, interval=60)
    assert not [record for record in caplog.records if "serves handler" in record.message]
