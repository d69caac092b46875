"""Reading, cancelling and waiting for jobs; figures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quiv_dist import (
    ConfigurationError,
    Event,
    JobNotFoundError,
    Quiv,
    SchedulerStoppedError,
    TaskNotFoundError,
)
from quiv_dist.config import Settings
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard, eventually, meanwhile


def running(face: Any, name: str = "g", func: Any = jobs.held) -> Any:
    """Add a task whose job waits at a gate; return the running job."""
    task_id = face.add_task("held", func, run_once=True, kwargs={"name": name})
    assert jobs.has_started(name)
    (job,) = face.get_all_jobs(task_id=task_id)
    return job


class TestReads:
    def test_tasks_by_next_run_with_their_filters(self, face: Any) -> None:
        late = face.add_task("a", jobs.note, interval=60, delay=300)
        soon = face.add_task("b", jobs.note, interval=60, delay=100)
        paused = face.add_task("a", jobs.note, interval=60, delay=200)
        once = face.add_task("a", jobs.note, run_once=True, delay=50)
        face.pause_task(paused)

        def found(**query: Any) -> list[str]:
            return [task.id for task in face.get_all_tasks(**query)]

        assert found() == [soon, paused, late]
        assert found(include_run_once=True) == [once, soon, paused, late]
        assert found(status="paused") == [paused]
        assert found(task_name="a") == [paused, late]
        assert found(limit=1, offset=1) == [paused]
        assert found(limit=0) == []
        with pytest.raises(TaskNotFoundError, match="'nobody'"):
            face.get_task("nobody")

    def test_jobs_with_their_filters(self, face: Any) -> None:
        before = datetime.now(UTC)
        heard = Heard()
        face.add_listener(Event.JOB_FAILED, heard)
        face.add_listener(Event.JOB_COMPLETED, heard)
        good = face.add_task("good", jobs.note, run_once=True)
        heard.wait_for(Event.JOB_COMPLETED)
        bad = face.add_task("bad", jobs.fail, run_once=True)
        heard.wait_for(Event.JOB_FAILED)

        def found(**query: Any) -> list[str]:
            return [job.task_id for job in face.get_all_jobs(**query)]

        assert found() == [bad, good]
        assert found(descending=False) == [good, bad]
        assert found(order_by="ended_at", descending=False) == [good, bad]
        assert found(status="failed") == [bad]
        assert found(task_id=good) == [good]
        assert found(limit=1, offset=1) == [good]
        assert found(since=before - timedelta(seconds=1)) == [bad, good]
        assert found(until=(before - timedelta(seconds=1)).replace(tzinfo=None)) == []
        with pytest.raises(ConfigurationError, match="order_by='id'"):
            face.get_all_jobs(order_by="id")
        with pytest.raises(ConfigurationError, match="since='now'"):
            face.get_all_jobs(since="now")

    def test_a_job_in_each_state(self, face: Any) -> None:
        job = running(face)
        assert (job.status, job.attempt, job.delivery) == ("running", 1, 1)
        assert job.ended_at is None
        assert job.started_at >= job.created_at
        assert face.get_job(job.id) == job
        jobs.open_gate("g")
        ended = face.wait_for_job(job.id, LIMIT_S)
        assert ended.status == "completed"
        assert ended == face.get_job(job.id)
        assert ended.ended_at >= ended.started_at
        with pytest.raises(JobNotFoundError, match="'nobody'"):
            face.get_job("nobody")

    def test_figures(self, make: Make) -> None:
        quiv, other = make(pool_size=4), make()
        quiv.start()
        before = datetime.now(UTC)
        job = running(quiv)
        quiv.add_task("next", jobs.note, interval=60, delay=60)
        figures = quiv.stats()
        assert (figures.active_jobs, figures.pool_size, figures.pool_utilization) == (1, 4, 0.25)
        assert figures.tasks_by_status == {"running": 1, "active": 1}
        assert figures.job_history_count == 1
        assert figures.loop_alive is True
        assert timedelta(0) < figures.next_run_at - before < timedelta(seconds=65)
        # Pool figures are an instance's own, the rest is the fleet's.
        elsewhere = other.stats()
        assert (elsewhere.active_jobs, elsewhere.loop_alive) == (0, False)
        assert elsewhere.tasks_by_status == figures.tasks_by_status
        jobs.open_gate("g")
        quiv.wait_for_job(job.id, LIMIT_S)

    def test_the_pool_size_bounds_functions_at_once(self, make: Make) -> None:
        quiv = make(pool_size=2)
        quiv.start()
        for _ in range(3):
            quiv.add_task("held", jobs.held, run_once=True, args=("g",))
        assert jobs.has_started("g")
        assert jobs.has_started("g")
        assert quiv.stats().active_jobs == 2
        eventually(lambda: len(quiv.get_all_jobs(status="scheduled")) == 1, "the third job")
        jobs.open_gate("g")
        assert jobs.has_started("g")


class TestCancel:
    def test_a_scheduled_job_at_once(self, make_face: Make) -> None:
        face = make_face(roles={"scheduler"})
        face.start()
        heard = Heard()
        face.add_listener(Event.JOB_SCHEDULED, heard)
        face.add_task("a", jobs.note, run_once=True)
        job = heard.wait_for(Event.JOB_SCHEDULED)[0].payload[1]
        assert face.cancel_job(job.id) is True
        assert face.get_job(job.id).status == "cancelled"
        assert face.cancel_job(job.id) is False

    def test_a_running_one_from_another_instance(self, make: Make) -> None:
        worker, other = make(), make()
        worker.start()
        job = running(worker, "polite", jobs.polite)
        assert other.cancel_job(job.id) is True
        assert other.wait_for_job(job.id, LIMIT_S).status == "cancelled"
        assert jobs.reasons["polite"] == "cancel"

    def test_unknown_and_finished_ones_are_false(self, face: Any) -> None:
        assert face.cancel_job("nobody") is False
        job = running(face)
        jobs.open_gate("g")
        face.wait_for_job(job.id, LIMIT_S)
        assert face.cancel_job(job.id) is False


class TestWaits:
    def test_a_waiter_wakes_after_the_listeners(self, face: Any) -> None:
        job = running(face)
        heard = Heard()
        face.add_listener(Event.JOB_COMPLETED, heard)
        with meanwhile(jobs.open_gate, "g"):
            assert face.wait_for_job(job.id, LIMIT_S).status == "completed"
        heard.wait_for(Event.JOB_COMPLETED)

    def test_a_finished_job_returns_at_once(self, face: Any) -> None:
        job = running(face)
        jobs.open_gate("g")
        ended = face.wait_for_job(job.id, LIMIT_S)
        assert face.wait_for_job(job.id, 0.5) == ended

    def test_from_another_instance(self, make: Make) -> None:
        worker, other = make(), make()
        worker.start()
        job = running(worker)
        with meanwhile(jobs.open_gate, "g"):
            assert other.wait_for_job(job.id, LIMIT_S).status == "completed"

    def test_an_ended_run_once_task_still_answers(self, face: Any) -> None:
        task_id = face.add_task("once", jobs.note, run_once=True)
        first = face.wait_for_task(task_id, LIMIT_S)
        assert face.wait_for_task(task_id, LIMIT_S) == first
        assert first.status == "completed"

    def test_timeouts_are_the_builtin_error(self, face: Any) -> None:
        job = running(face)
        with pytest.raises(TimeoutError, match=job.id):
            face.wait_for_job(job.id, timeout=0.05)
        with pytest.raises(TimeoutError, match=job.task_id):
            face.wait_for_task(job.task_id, timeout=0.05)

    def test_unknown_ids(self, face: Any) -> None:
        with pytest.raises(JobNotFoundError):
            face.wait_for_job("nobody", 1)
        with pytest.raises(TaskNotFoundError):
            face.wait_for_task("nobody", 1)

    def test_a_removed_task_with_nothing_running(self, make: Make) -> None:
        quiv, other = make(), make()
        task_id = quiv.add_task("a", jobs.note, interval=60, delay=60)
        for remover in (quiv, other):
            task_id = quiv.add_task("a", jobs.note, run_once=True, delay=60)
            gone = pytest.raises(TaskNotFoundError, match=task_id)
            with meanwhile(remover.remove_task, task_id), gone:
                quiv.wait_for_task(task_id, LIMIT_S)

    def test_a_removed_task_with_a_running_job_gives_the_job(self, face: Any) -> None:
        job = running(face, "polite", jobs.polite)
        with meanwhile(face.remove_task, job.task_id):
            ended = face.wait_for_task(job.task_id, LIMIT_S)
        assert (ended.id, ended.status) == (job.id, "cancelled")

    def test_a_shutdown_ends_the_wait(self, make_face: Make) -> None:
        face = make_face()
        face.start()
        task_id = face.add_task("later", jobs.note, interval=60, delay=60)
        with meanwhile(face.shutdown), pytest.raises(SchedulerStoppedError):
            face.wait_for_task(task_id, LIMIT_S)
        with pytest.raises(SchedulerStoppedError):
            face.wait_for_task(task_id, LIMIT_S)

    async def test_await_job_and_await_task_of_the_synchronous_face(self, make: Make) -> None:
        quiv: Quiv = make()
        quiv.start()
        task_id = quiv.add_task("once", jobs.note, run_once=True)
        job = await quiv.await_task(task_id, LIMIT_S)
        assert (await quiv.await_job(job.id, LIMIT_S)).status == "completed"
        with pytest.raises(TimeoutError):
            await quiv.await_task(quiv.add_task("x", jobs.note, interval=60, delay=60), 0.05)


def test_history_ends_with_its_retention(make: Make) -> None:
    quiv = make(history_retention_seconds=0)
    quiv.asynchronous.configure(settings=Settings(purge_s=0.05, janitor_s=0.05))
    quiv.start()
    heard = Heard()
    quiv.add_listener(Event.JOB_COMPLETED, heard)
    quiv.add_task("once", jobs.note, run_once=True)
    job = heard.wait_for(Event.JOB_COMPLETED)[0].payload[1]
    eventually(lambda: quiv.get_all_jobs() == [], "the end of the history")
    with pytest.raises(JobNotFoundError):
        quiv.get_job(job.id)
