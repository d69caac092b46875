"""The examples of quiv's page on event listeners, as they stand there but for the import."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from tests.client import jobs
from tests.client.faces import Heard, LoopThread, eventually


@pytest.fixture(autouse=True)
def _configured(monkeypatch: pytest.MonkeyPatch, redis_url: str, namespace: str) -> None:
    monkeypatch.setenv("QUIV_REDIS_URL", redis_url)
    monkeypatch.setenv("QUIV_NAMESPACE", namespace)


def test_task_events(capsys: pytest.CaptureFixture[str]) -> None:
    from quiv_dist import Event, Quiv
    from quiv_dist.models import Task

    def on_task_event(event: Event, task: Task) -> None:
        print(f"[{event.value}] Task '{task.task_name}' (id={task.id})")

    scheduler = Quiv()
    for event in (Event.TASK_ADDED, Event.TASK_PAUSED, Event.TASK_RESUMED, Event.TASK_REMOVED):
        scheduler.add_listener(event, on_task_event)
    task_id = scheduler.add_task("my-task", jobs.nothing, interval=60)
    scheduler.pause_task(task_id)
    scheduler.resume_task(task_id)
    scheduler.remove_task(task_id)
    scheduler.shutdown()
    assert capsys.readouterr().out.splitlines() == [
        f"[{kind}] Task 'my-task' (id={task_id})"
        for kind in ("task_added", "task_paused", "task_resumed", "task_removed")
    ]


def test_job_events(capsys: pytest.CaptureFixture[str]) -> None:
    from quiv_dist import Event, Quiv
    from quiv_dist.models import Job, Task

    def on_job_event(event: Event, task: Task, job: Job) -> None:
        print(f"[{event.value}] Job {job.id} for '{task.task_name}'")
        if job.duration_seconds is not None:
            print(f"  Duration: {job.duration_seconds:.2f}s")
        if job.error_message is not None:
            print(f"  Error: {job.error_message}")

    scheduler = Quiv()
    heard = Heard()
    for event in (Event.JOB_STARTED, Event.JOB_FAILED):
        scheduler.add_listener(event, on_job_event)
    scheduler.add_listener(Event.JOB_FAILED, heard)
    scheduler.start()
    scheduler.add_task("my-task", jobs.fail, run_once=True, args=("boom",))
    (call,) = heard.wait_for(Event.JOB_FAILED)
    scheduler.shutdown()
    job_id = call.payload[1].id
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"[job_started] Job {job_id} for 'my-task'",
        f"[job_failed] Job {job_id} for 'my-task'",
    ]
    assert lines[2].startswith("  Duration: 0.")
    assert lines[3] == "  Error: boom"


def test_registering_listeners(capsys: pytest.CaptureFixture[str]) -> None:
    from quiv_dist import Event, Quiv
    from quiv_dist.models import Task

    scheduler = Quiv()

    def on_task_added(event: Event, task: Task) -> None:
        print(f"Task '{task.task_name}' added with ID {task.id}")

    scheduler.add_listener(Event.TASK_ADDED, on_task_added)
    task_id = scheduler.add_task("one", jobs.nothing, interval=60)
    scheduler.remove_listener(Event.TASK_ADDED, on_task_added)
    scheduler.remove_listener(Event.TASK_ADDED, on_task_added)
    scheduler.add_task("two", jobs.nothing, interval=60)
    scheduler.shutdown()
    assert capsys.readouterr().out == f"Task 'one' added with ID {task_id}\n"


def test_multiple_listeners_and_multiple_events() -> None:
    from quiv_dist import Event, Quiv
    from quiv_dist.models import Job, Task

    order: list[str] = []

    def log_failure(event: Event, task: Task, job: Job) -> None:
        order.append("log")

    def send_alert(event: Event, task: Task, job: Job) -> None:
        order.append("alert")

    def job_audit_log(event: Event, task: Task, job: Job) -> None:
        order.append(f"[{event.value}] task={task.task_name} job={job.id == job_of[task.id]}")

    job_of: dict[str, str] = {}
    scheduler = Quiv()
    scheduler.add_listener(
        Event.JOB_STARTED, lambda _, task, job: job_of.__setitem__(task.id, job.id)
    )
    scheduler.add_listener(Event.JOB_FAILED, log_failure)
    scheduler.add_listener(Event.JOB_FAILED, send_alert)
    scheduler.add_listener(Event.JOB_COMPLETED, job_audit_log)
    scheduler.add_listener(Event.JOB_FAILED, job_audit_log)
    scheduler.start()
    scheduler.add_task("bad", jobs.fail, run_once=True)
    eventually(lambda: len(order) == 3, "the failure")
    scheduler.add_task("good", jobs.nothing, run_once=True)
    eventually(lambda: len(order) == 4, "the completion")
    scheduler.shutdown()
    assert order == [
        "log", "alert", "[job_failed] task=bad job=True", "[job_completed] task=good job=True",
    ]  # fmt: skip


def test_async_listeners(app_loop: LoopThread) -> None:
    from quiv_dist import Event, Quiv
    from quiv_dist.models import Job, Task

    sent: list[tuple[dict[str, Any], str]] = []

    class Sockets:
        async def broadcast(self, message: dict[str, Any]) -> None:
            sent.append((message, threading.current_thread().name))

    ws_manager = Sockets()

    async def on_job_completed(event: Event, task: Task, job: Job) -> None:
        await ws_manager.broadcast({
            "type": "job_completed",
            "task": task.task_name,
            "duration_seconds": job.duration_seconds,
        })  # fmt: skip

    scheduler = Quiv(main_loop=app_loop.loop)
    scheduler.add_listener(Event.JOB_COMPLETED, on_job_completed)
    scheduler.start()
    scheduler.add_task("my-task", jobs.nothing, run_once=True)
    eventually(lambda: sent, "the broadcast")
    scheduler.shutdown()
    message, thread = sent[0]
    assert (message["type"], message["task"]) == ("job_completed", "my-task")
    assert message["duration_seconds"] >= 0
    assert thread == "app-loop"


def test_error_handling(caplog: pytest.LogCaptureFixture) -> None:
    from quiv_dist import Event, Quiv

    seen: list[str] = []

    def broken(*_: Any) -> None:
        msg = "listener 1"
        raise RuntimeError(msg)

    scheduler = Quiv()
    scheduler.add_listener(Event.TASK_ADDED, broken)
    scheduler.add_listener(Event.TASK_ADDED, lambda _, task: seen.append(task.task_name))
    with caplog.at_level(logging.ERROR, "Quiv"):
        scheduler.add_task("my-task", jobs.nothing, interval=10)
    scheduler.shutdown()
    assert seen == ["my-task"]
    assert any("listener 1" in record.getMessage() for record in caplog.records)


def test_without_an_event_loop(capsys: pytest.CaptureFixture[str]) -> None:
    from quiv_dist import Event, Quiv
    from quiv_dist.models import Task

    scheduler = Quiv()

    def on_added(event: Event, task: Task) -> None:
        print(f"Added: {task.task_name}")

    scheduler.add_listener(Event.TASK_ADDED, on_added)
    scheduler.add_task("my-task", lambda: None, interval=10)
    # Prints: Added: my-task
    assert capsys.readouterr().out == "Added: my-task\n"
    scheduler.shutdown()
