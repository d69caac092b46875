"""progress_hook and progress_callback."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from quiv_dist import Event
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard, LoopThread, eventually


class Updates:
    """A progress callback that keeps its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any], str]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append((args, kwargs, threading.current_thread().name))


def test_the_callback_gets_what_the_hook_was_given(face: Any) -> None:
    updates = Updates()
    face.add_task("p", jobs.report_fields, run_once=True, progress_callback=updates)
    eventually(lambda: updates.calls, "the update")
    args, kwargs, _ = updates.calls[0]
    assert (args, kwargs) == ((1, 2), {"step": "half", "done": 0.5})


def test_every_instance_that_added_the_task_calls_its_own_once(make: Make) -> None:
    replicas = [(make(), Updates()) for _ in range(3)]
    for quiv, updates in replicas:
        quiv.add_task("p", jobs.report_fields, interval=3600, progress_callback=updates)
    bystander = make()
    heard = Heard()
    bystander.add_listener(Event.JOB_PROGRESS, heard)
    for quiv, _ in replicas:
        quiv.start()
    heard.wait_for(Event.JOB_PROGRESS)
    for _, updates in replicas:
        eventually(partial(bool, updates.calls), "the update")
    assert [len(updates.calls) for _, updates in replicas] == [1, 1, 1]


def test_ten_a_second_cross_the_wire_and_the_last_always(face: Any) -> None:
    updates, heard = Updates(), Heard()
    face.add_listener(Event.JOB_COMPLETED, heard)
    face.add_task(
        "p", jobs.report, run_once=True, args=tuple(range(1000)), progress_callback=updates
    )
    (call,) = heard.wait_for(Event.JOB_COMPLETED)
    eventually(lambda: updates.calls and updates.calls[-1][0] == (999,), "the last update")
    took = call.payload[1].duration_seconds
    assert len(updates.calls) <= 3 + 10 * (took + 0.2)


def test_a_payload_that_cannot_be_encoded_fails_the_job_naming_the_key(face: Any) -> None:
    updates = Updates()
    task_id = face.add_task("p", jobs.report_unencodable, run_once=True, progress_callback=updates)
    job = face.wait_for_task(task_id, LIMIT_S)
    assert job.status == "failed"
    assert "step=" in job.error_message
    assert updates.calls == []


def test_it_follows_the_dispatch_table(make: Make, app_loop: LoopThread) -> None:
    quiv = make(main_loop=app_loop.loop)
    quiv.start()
    plain, from_async = Updates(), Updates()

    async def callback(*args: Any, **kwargs: Any) -> None:
        from_async(*args, **kwargs)

    for found in (plain, callback):
        quiv.add_task("p", jobs.report_fields, run_once=True, progress_callback=found)
    eventually(lambda: plain.calls and from_async.calls, "the updates")
    assert plain.calls[0][2] == from_async.calls[0][2] == "app-loop"


def test_without_a_loop_it_is_the_listener_thread(quiv: Any) -> None:
    updates = Updates()
    quiv.add_task("p", jobs.report_fields, run_once=True, progress_callback=updates)
    eventually(lambda: updates.calls, "the update")
    assert updates.calls[0][2] == "quiv-listeners"


def test_a_callback_can_be_changed_and_taken_away(face: Any) -> None:
    first, second, heard = Updates(), Updates(), Heard()
    face.add_listener(Event.JOB_PROGRESS, heard)
    task_id = face.add_task(
        "p", jobs.report_fields, interval=3600, delay=3600, progress_callback=first
    )
    face.update_task(task_id, progress_callback=second)
    face.run_task_immediately(task_id)
    eventually(lambda: second.calls, "the update")
    eventually(lambda: face.get_task(task_id).status == "active", "the end")
    face.update_task(task_id, progress_callback=None)
    face.run_task_immediately(task_id)
    heard.wait_for(Event.JOB_PROGRESS, Event.JOB_PROGRESS)
    assert (len(first.calls), len(second.calls)) == (0, 1)


def test_a_callback_that_raises_harms_nobody(face: Any) -> None:
    def broken(*_: Any, **__: Any) -> None:
        msg = "broken"
        raise RuntimeError(msg)

    task_id = face.add_task("p", jobs.report_fields, run_once=True, progress_callback=broken)
    assert face.wait_for_task(task_id, LIMIT_S).status == "completed"
