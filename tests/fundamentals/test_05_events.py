"""Chapter 5. Listeners hear what happens, to tasks and to jobs, in the whole fleet."""

from __future__ import annotations

import threading

from quiv_dist import Event, Quiv
from quiv_dist.models import Job, Task


def work() -> None:
    """A job like any other."""


def test_listeners(quiv: Quiv) -> None:
    heard: list[str] = []
    ended = threading.Event()

    def on_task(event: Event, task: Task) -> None:
        heard.append(f"{event.value} {task.task_name}")

    def on_job(event: Event, task: Task, job: Job) -> None:
        heard.append(f"{event.value} {task.task_name} {job.status}")
        if event is Event.JOB_COMPLETED:
            ended.set()

    quiv.add_listener(Event.TASK_ADDED, on_task)
    quiv.add_listener(Event.JOB_STARTED, on_job)
    quiv.add_listener(Event.JOB_COMPLETED, on_job)

    # Without an event loop, add_task has called its listeners when it returns.
    quiv.add_task("work", work, run_once=True)
    assert heard == ["task_added work"]

    quiv.start()
    assert ended.wait(timeout=20)
    assert heard[1:] == ["job_started work running", "job_completed work completed"]
