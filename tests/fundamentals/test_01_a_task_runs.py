"""Chapter 1. A task is what to run and when; a job is one run of it.

Everything in this folder is read from 01 onwards, one idea a chapter, and runs on a real server.
"""

from __future__ import annotations

from quiv_dist import Quiv

greetings: list[str] = []


def greet() -> None:
    greetings.append("hello")


def test_a_task_runs(quiv: Quiv) -> None:
    quiv.start()

    # Run it once, as soon as possible. The task's id is a string.
    task_id = quiv.add_task("greet", greet, run_once=True)

    # Wait for its job to end, wherever in the fleet it runs.
    job = quiv.wait_for_task(task_id, timeout=20)
    assert job.status == "completed"
    assert greetings == ["hello"]


def test_a_task_repeats(quiv: Quiv) -> None:
    quiv.start()
    task_id = quiv.add_task("greet", greet, interval=0.05)
    first = quiv.wait_for_task(task_id, timeout=20)
    second = quiv.wait_for_task(task_id, timeout=20)

    # Two jobs of one task; it stays, and says when it runs next.
    assert first.id != second.id
    assert quiv.get_task(task_id).next_run_at > first.started_at
