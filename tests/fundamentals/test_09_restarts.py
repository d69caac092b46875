"""Chapter 9. The schedule outlives the processes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quiv_dist import Quiv


def work() -> None:
    """A job like any other."""


@pytest.fixture
def new_life(redis_url: str, namespace: str) -> Callable[[], Quiv]:
    return lambda: Quiv(redis_url=redis_url, namespace=namespace)


def test_a_restart_means_the_same_task(new_life: Callable[[], Quiv]) -> None:
    first = new_life()
    task_id = first.add_task("work", work, interval=3600, delay=3600)
    first.start()
    due = first.get_task(task_id).next_run_at
    first.shutdown()

    second = new_life()
    assert second.add_task("work", work, interval=3600, delay=3600) == task_id
    assert second.get_task(task_id).next_run_at == due
    second.shutdown()


def test_an_id_of_ones_own_is_an_upsert(new_life: Callable[[], Quiv]) -> None:
    quiv = new_life()
    quiv.add_task("work", work, interval=60, delay=60, task_id="nightly")
    quiv.add_task("work", work, interval=90, delay=90, task_id="nightly")
    assert [task.interval_seconds for task in quiv.get_all_tasks()] == [90]
    quiv.shutdown()


def test_what_was_due_meanwhile_runs_when_somebody_is_back(new_life: Callable[[], Quiv]) -> None:
    client = new_life()
    task_id = client.add_task("work", work, run_once=True)
    client.shutdown()

    worker = Quiv(
        redis_url=client.asynchronous.settings.redis_url,
        namespace=client.asynchronous.settings.namespace,
        handlers=[work],
    )
    worker.start()
    assert worker.wait_for_task(task_id, timeout=20).status == "completed"
    worker.shutdown()
