"""Events of both faces: which come, in which order, on which thread, how often."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from quiv_dist import ConfigurationError, Event, Quiv, TaskNotFoundError
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard, LoopThread, eventually

TASK_KINDS = (
    Event.TASK_ADDED, Event.TASK_UPDATED, Event.TASK_PAUSED, Event.TASK_RESUMED,
    Event.TASK_REMOVED, Event.TASK_ENDED,
)  # fmt: skip
JOB_KINDS = (
    Event.JOB_SCHEDULED, Event.JOB_STARTED, Event.JOB_COMPLETED, Event.JOB_FAILED,
    Event.JOB_CANCELLED, Event.JOB_RETRYING, Event.JOB_DEAD,
)  # fmt: skip


def listen(quiv: Any, *kinds: Event) -> Heard:
    heard = Heard()
    for kind in kinds:
        quiv.add_listener(kind, heard)
    return heard


class TestKindsAndOrder:
    def test_of_the_calls_on_a_task(self, face: Any) -> None:
        heard = listen(face, *TASK_KINDS)
        task_id = face.add_task("a", jobs.note, interval=60, delay=60)
        face.update_task(task_id, task_name="b")
        face.pause_task(task_id)
        face.resume_task(task_id, delay=60)
        face.remove_task(task_id)
        calls = heard.wait_for(*TASK_KINDS[:5])
        assert heard.kinds == list(TASK_KINDS[:5])
        assert [call.payload[0].status for call in calls] == [
            "active", "active", "paused", "active", "active",
        ]  # fmt: skip
        assert {call.payload[0].id for call in calls} == {task_id}

    def test_of_a_job_that_completes(self, face: Any) -> None:
        heard = listen(face, *JOB_KINDS, Event.TASK_ENDED)
        task_id = face.add_task("a", jobs.note, run_once=True)
        calls = heard.wait_for(Event.TASK_ENDED)
        assert heard.kinds == [
            Event.JOB_SCHEDULED, Event.JOB_STARTED, Event.JOB_COMPLETED, Event.TASK_ENDED,
        ]  # fmt: skip
        for _, (task, job), _ in calls[:3]:
            assert (task.id, task.status, job.task_id) == (task_id, "running", task_id)
        assert [call.payload[1].status for call in calls[:3]] == [
            "scheduled", "running", "completed",
        ]  # fmt: skip
        assert calls[2].payload[1].duration_seconds >= 0

    def test_of_a_job_that_fails_and_is_tried_again(self, face: Any) -> None:
        heard = listen(face, *JOB_KINDS)
        face.add_task(
            "a", jobs.fail, run_once=True, args=("boom",), max_retries=1, retry_backoff=0.01
        )
        calls = heard.wait_for(Event.JOB_FAILED, Event.JOB_FAILED, Event.JOB_DEAD)
        ends = [Event.JOB_SCHEDULED, Event.JOB_STARTED, Event.JOB_FAILED]
        assert heard.kinds == [*ends, Event.JOB_RETRYING, *ends, Event.JOB_DEAD]
        failed = [call.payload[1] for call in calls if call.event is Event.JOB_FAILED]
        assert [(job.attempt, job.error_message) for job in failed] == [(1, "boom"), (2, "boom")]
        assert failed[0].run_id == failed[1].run_id
        assert failed[0].id != failed[1].id

    def test_of_a_job_that_is_cancelled(self, face: Any) -> None:
        heard = listen(face, *JOB_KINDS)
        face.add_task("a", jobs.polite, run_once=True)
        assert jobs.has_started("polite")
        (job,) = face.get_all_jobs()
        assert face.cancel_job(job.id) is True
        heard.wait_for(Event.JOB_CANCELLED)
        assert heard.kinds == [Event.JOB_SCHEDULED, Event.JOB_STARTED, Event.JOB_CANCELLED]


class TestOwnEvents:
    """Of an event that a call caused, the calling thread is the caller's."""

    def test_without_a_loop_they_are_heard_before_the_call_returns(self, quiv: Quiv) -> None:
        heard = listen(quiv, *TASK_KINDS)
        here = threading.current_thread().name
        task_id = quiv.add_task("a", jobs.note, interval=60, delay=60)
        assert [(call.event, call.thread) for call in heard.calls] == [(Event.TASK_ADDED, here)]
        quiv.pause_task(task_id)
        quiv.resume_task(task_id, delay=60)
        quiv.update_task(task_id, jitter=1)
        quiv.remove_task(task_id)
        assert [(call.event, call.thread) for call in heard.calls] == [
            (kind, here)
            for kind in (
                Event.TASK_ADDED, Event.TASK_PAUSED, Event.TASK_RESUMED, Event.TASK_UPDATED,
                Event.TASK_REMOVED,
            )
        ]  # fmt: skip

    def test_even_before_the_start(self, make: Make) -> None:
        quiv = make()
        heard = listen(quiv, Event.TASK_ADDED)
        quiv.add_task("a", jobs.note, interval=60)
        assert heard.kinds == [Event.TASK_ADDED]

    def test_a_refused_call_is_silent(self, quiv: Quiv) -> None:
        heard = listen(quiv, *TASK_KINDS)
        with pytest.raises(TaskNotFoundError):
            quiv.pause_task("nobody")
        with pytest.raises(ConfigurationError):
            quiv.add_task("a", jobs.note)
        assert heard.calls == []

    def test_each_is_heard_once_here_and_once_elsewhere(self, make: Make) -> None:
        here, there = make(), make()
        own, foreign = listen(here, *TASK_KINDS), listen(there, *TASK_KINDS)
        for name in ("a", "b", "c"):
            here.remove_task(here.add_task(name, jobs.note, run_once=True, delay=60))
        foreign.wait_for(*[Event.TASK_REMOVED] * 3)
        # The other instance's own event comes after every echo of the first one's.
        last = there.add_task("last", jobs.note, run_once=True, delay=60)
        eventually(lambda: own.calls[-1].payload[0].id == last, "the last event")
        assert own.kinds == [Event.TASK_ADDED, Event.TASK_REMOVED] * 3 + [Event.TASK_ADDED]
        assert foreign.kinds == own.kinds
        assert [c.payload for c in own.calls] == [c.payload for c in foreign.calls]


class TestThreads:
    def test_jobs_and_foreign_events_come_on_the_listener_thread(self, make: Make) -> None:
        here, there = make(), make()
        here.start()
        heard = listen(here, Event.TASK_ADDED, *JOB_KINDS)
        there.add_task("foreign", jobs.note, run_once=True, delay=60)
        heard.wait_for(Event.TASK_ADDED)
        here.wait_for_task(here.add_task("own", jobs.note, run_once=True), LIMIT_S)
        heard.wait_for(Event.JOB_COMPLETED)
        by_kind = {call.event: call.thread for call in heard.calls if call.payload[0].task_name}
        assert heard.calls[0].thread == "quiv-listeners"
        assert by_kind[Event.JOB_STARTED] == by_kind[Event.JOB_COMPLETED] == "quiv-listeners"

    def test_an_async_listener_without_a_loop_runs_in_a_temporary_one(self, quiv: Quiv) -> None:
        heard = Heard()

        async def listener(event: Event, *payload: Any) -> None:
            heard(event, *payload)

        quiv.add_listener(Event.TASK_ADDED, listener)
        quiv.add_listener(Event.JOB_COMPLETED, listener)
        quiv.add_task("a", jobs.note, run_once=True)
        assert heard.calls[0].thread == threading.current_thread().name
        calls = heard.wait_for(Event.JOB_COMPLETED)
        assert calls[-1].thread == "quiv-listeners"

    @pytest.mark.parametrize("given", [True, False], ids=["main_loop=", "found at the start"])
    def test_with_a_main_loop_every_listener_runs_on_it(
        self, make: Make, app_loop: LoopThread, given: bool
    ) -> None:
        quiv = make(main_loop=app_loop.loop) if given else make()
        there = make()
        heard, heard_async = Heard(), Heard()

        async def listener(event: Event, *payload: Any) -> None:
            heard_async(event, *payload)

        if given:
            quiv.start()
        else:
            app_loop.call(quiv.start)
        for kind in (Event.TASK_ADDED, Event.JOB_COMPLETED):
            quiv.add_listener(kind, heard)
            quiv.add_listener(kind, listener)
        quiv.add_task("a", jobs.note, run_once=True)
        there.add_task("b", jobs.note, run_once=True, delay=60)
        for found in (heard, heard_async):
            calls = found.wait_for(Event.TASK_ADDED, Event.TASK_ADDED, Event.JOB_COMPLETED)
            assert {call.thread for call in calls} == {"app-loop"}

    def test_a_closed_loop_is_unavailable(self, make: Make) -> None:
        app = LoopThread()
        quiv = make(main_loop=app.loop)
        heard = listen(quiv, Event.TASK_ADDED)
        app.close()
        quiv.add_task("a", jobs.note, interval=60)
        assert [call.thread for call in heard.calls] == [threading.current_thread().name]

    def test_calls_may_be_made_on_the_main_loop_itself(
        self, make: Make, app_loop: LoopThread
    ) -> None:
        quiv = make()
        heard = listen(quiv, Event.TASK_ADDED)
        app_loop.call(quiv.add_task, "a", jobs.note, 60)
        heard.wait_for(Event.TASK_ADDED)
        assert heard.calls[0].thread == "app-loop"


class TestListeners:
    def test_registration_order_twice_is_twice_and_removal_takes_one(self, face: Any) -> None:
        order: list[str] = []
        heard = Heard()

        def first(*_: Any) -> None:
            order.append("first")

        def second(*_: Any) -> None:
            order.append("second")

        for listener in (first, second, first):
            face.add_listener(Event.TASK_ADDED, listener)
        face.remove_listener(Event.TASK_ADDED, first)
        face.remove_listener(Event.TASK_ADDED, heard)
        face.remove_listener(Event.TASK_REMOVED, first)
        face.add_listener(Event.TASK_ADDED, heard)
        face.add_task("a", jobs.note, interval=60, delay=60)
        heard.wait_for(Event.TASK_ADDED)
        assert order == ["second", "first"]

    def test_one_that_raises_stops_neither_the_others_nor_the_job(
        self, face: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: Any) -> None:
            msg = "broken listener"
            raise RuntimeError(msg)

        async def broken_async(*_: Any) -> None:
            broken()

        for kind in (Event.TASK_ADDED, Event.JOB_STARTED, Event.JOB_COMPLETED):
            face.add_listener(kind, broken)
            face.add_listener(kind, broken_async)
        heard = listen(face, Event.TASK_ADDED, Event.JOB_COMPLETED)
        with caplog.at_level(logging.ERROR, "Quiv"):
            face.add_task("a", jobs.note, run_once=True)
            heard.wait_for(Event.TASK_ADDED, Event.JOB_COMPLETED)
            eventually(lambda: sum("broken" in r.getMessage() for r in caplog.records) == 6)
        assert len(jobs.calls) == 1

    def test_a_name_filters(self, face: Any) -> None:
        heard = Heard()
        face.add_listener(Event.TASK_ADDED, heard, task_name="billing-*")
        face.add_task("mail", jobs.note, interval=60, delay=60)
        face.add_task("billing-eu", jobs.note, interval=60, delay=60)
        calls = heard.wait_for(Event.TASK_ADDED)
        assert [call.payload[0].task_name for call in calls] == ["billing-eu"]

    def test_what_is_no_event_or_no_callback_is_refused(self, face: Any) -> None:
        with pytest.raises(ConfigurationError, match="'task_added'"):
            face.add_listener("task_added", print)
        with pytest.raises(ConfigurationError, match="'no'"):
            face.add_listener(Event.TASK_ADDED, "no")

    def test_a_slow_listener_delays_listeners_and_nothing_else(self, quiv: Quiv) -> None:
        blocked, release = threading.Event(), threading.Event()

        def slow(*_: Any) -> None:
            blocked.set()
            release.wait(LIMIT_S)

        quiv.add_listener(Event.JOB_STARTED, slow)
        quiv.add_task("a", jobs.note, run_once=True)
        assert blocked.wait(LIMIT_S)
        for number in range(3):
            quiv.add_task("b", jobs.note, run_once=True, args=(number,))
        eventually(lambda: len(jobs.calls) == 4, "the jobs")
        assert not release.is_set()
        release.set()
