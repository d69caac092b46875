"""What type checkers see of the public API; checked by mypy --strict, never run.

Lines that must be refused carry an ignore with the code of the refusal: were it accepted, the
ignore would be unused, which is an error too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, assert_type

from quiv_dist import AsyncQuiv, Event, Job, Quiv, QuivStats, RunHandle, Task

quiv = Quiv(redis_url="redis://localhost", namespace="typed", roles={"worker"})
async_quiv = AsyncQuiv()


@quiv.handler(queue="images", max_retries=2)
def resize(width: int, *, suffix: str = "px") -> str:
    return f"{width}{suffix}"


@async_quiv.handler()
async def fetch(url: str) -> bytes:
    return url.encode()


@quiv.task(cron="0 9 * * mon-fri", cron_timezone="Europe/Paris")
def report(day: int = 1) -> float:
    return float(day)


def handles() -> None:
    assert_type(resize(42), str)
    assert_type(resize(42, suffix="em"), str)
    assert_type(resize.submit(42), RunHandle[str])
    assert_type(resize.submit(42, suffix="em").result(timeout=5), str)
    assert_type(resize.submit_many([(1,), (2,)]), list[RunHandle[str]])
    assert_type(resize.submit_with((1,), key="k").result(), str)
    resize("x")  # type: ignore[arg-type]
    resize.submit("x")  # type: ignore[arg-type]
    resize.submit()  # type: ignore[call-arg]
    resize.submit(42, colour="red")  # type: ignore[call-arg]
    fetching = fetch("u")
    assert_type(fetching, Coroutine[Any, Any, bytes])  # type: ignore[unused-coroutine]
    assert_type(fetch.submit("u"), RunHandle[bytes])
    assert_type(report(2), float)
    report("x")  # type: ignore[arg-type]


async def awaiting() -> None:
    assert_type(await resize.submit_async(42), RunHandle[str])
    assert_type(await (await resize.submit_async(42)), str)
    assert_type(await fetch("u"), bytes)
    assert_type(await async_quiv.add_task("t", report, 60), str)
    assert_type(await async_quiv.get_task("t"), Task)
    assert_type(await async_quiv.wait_for_job("j", 5.0), Job)
    assert_type(await async_quiv.stats(), QuivStats)
    assert_type(await quiv.await_task("t"), Job)
    await async_quiv.cancel_job(5)  # type: ignore[arg-type]


def with_stop(stop_event: threading.Event) -> None: ...


def calls(at: datetime) -> None:
    assert_type(quiv.add_task("t", report, interval=60, max_retries=1), str)
    assert_type(quiv.add_task("t", with_stop, run_once=True, run_at=at), str)
    assert_type(quiv.add_task("t", lambda: None, cron="* * * * *", if_exists="keep"), str)
    quiv.add_task("t", report, interval="60")  # type: ignore[arg-type]
    quiv.add_task("t", 5, interval=60)  # type: ignore[arg-type]
    quiv.add_task("t", report, 60, if_exists="perhaps")  # type: ignore[arg-type]
    quiv.add_task("t", report, 60, colour="red")  # type: ignore[call-arg]
    assert_type(quiv.update_task("t", interval=30, timeout=None), Task)
    assert_type(quiv.get_all_tasks(status="paused"), list[Task])
    assert_type(quiv.get_all_jobs(since=at), list[Job])
    assert_type(quiv.cancel_job("j"), bool)
    assert_type(quiv.run_task_immediately("t"), int)
    assert_type(quiv.wait_for_task("t", timeout=1), Job)
    assert_type(quiv.stats(), QuivStats)
    assert_type(quiv.is_running, bool)


def on_task(event: Event, task: Task) -> None: ...


async def on_job(event: Event, task: Task, job: Job) -> None: ...


def listeners() -> None:
    quiv.add_listener(Event.TASK_ADDED, on_task)
    quiv.add_listener(Event.JOB_COMPLETED, on_job, task_name="billing-*")
    quiv.remove_listener(Event.TASK_ADDED, on_task)
    quiv.add_listener("task_added", on_task)  # type: ignore[arg-type]
    quiv.add_listener(Event.TASK_ADDED, "x")  # type: ignore[arg-type]


callback: Callable[[int], str] = resize
