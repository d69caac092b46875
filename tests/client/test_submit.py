"""@quiv.handler: submissions, their results, keys and errors."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from quiv_dist import ConfigurationError, Event, JobFailedError, Quiv
from quiv_dist.runtime.handles import HandlerHandle
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard, LoopThread


@dataclasses.dataclass
class Size:
    width: int
    at: datetime


def resize(width: int, *, suffix: str = "px") -> str:
    return f"{width}{suffix}"


def measure(size: Size) -> Size:
    return dataclasses.replace(size, width=size.width * 2)


async def resize_async(width: int) -> str:
    await asyncio.sleep(0)
    return f"{width} async"


def fail_twice() -> int:
    jobs.fail_times("submitted", 2)
    return len(jobs.calls)


def fail() -> None:
    msg = "no"
    raise ValueError(msg)


def odd() -> object:
    return object()


blocking_calls: list[Callable[[], Any]] = []


async def block_the_loop() -> list[str]:
    texts = []
    for call in blocking_calls:
        try:
            call()
        except RuntimeError as error:
            texts.append(str(error))
    return texts


@pytest.fixture
def started(make: Make) -> Quiv:
    quiv: Quiv = make()
    return quiv


def declare(quiv: Any, func: Any, **options: Any) -> HandlerHandle[..., Any, Any]:
    handle: HandlerHandle[..., Any, Any] = quiv.handler(**options)(func)
    if not quiv.is_running:
        quiv.start()
    return handle


def test_calling_a_handle_runs_it_here(started: Quiv) -> None:
    handle = started.handler()(resize)
    assert handle(3, suffix="em") == "3em"
    assert handle.name.endswith(":resize")
    assert not started.is_running


def test_a_submission_runs_once_and_its_value_comes_back(started: Quiv) -> None:
    handle = declare(started, resize)
    run = handle.submit(42, suffix="em")
    assert run.result(LIMIT_S) == "42em"
    assert run.result(0.5) == "42em"
    (job,) = started.get_all_jobs()
    assert (job.id, job.run_id, job.run_kind) == (run.job_id, run.run_id, "submit")


def test_values_come_back_through_the_annotation(started: Quiv) -> None:
    size = Size(2, datetime(2026, 1, 1, tzinfo=UTC))
    run = declare(started, measure).submit(size)
    assert run.result(LIMIT_S) == dataclasses.replace(size, width=4)


def test_a_coroutine_function(started: Quiv) -> None:
    handle = declare(started, resize_async)
    assert asyncio.run(handle(1)) == "1 async"
    assert handle.submit(2).result(LIMIT_S) == "2 async"


def test_on_a_loop_of_the_application(make: Make, app_loop: LoopThread) -> None:
    quiv = make()
    handle = declare(quiv, resize)

    async def use() -> list[str]:
        run = await handle.submit_async(1)
        return [await run, await (await handle.submit_async(2))]

    assert app_loop.run(use()) == ["1px", "2px"]


def test_many_in_one_call(started: Quiv) -> None:
    handle = declare(started, resize)
    runs = handle.submit_many([(number,) for number in range(450)])
    assert [run.result(LIMIT_S) for run in runs] == [f"{number}px" for number in range(450)]
    assert handle.submit_many([]) == []


def test_a_result_follows_retries_to_the_end(started: Quiv) -> None:
    run = declare(started, fail_twice, max_retries=2, retry_backoff=0.01).submit()
    assert run.result(LIMIT_S) == 3
    assert sorted(job.attempt for job in started.get_all_jobs()) == [1, 2, 3]


def test_a_run_that_fails_raises_and_is_dead_lettered(started: Quiv) -> None:
    heard = Heard()
    started.add_listener(Event.JOB_DEAD, heard)
    run = declare(started, fail).submit()
    with pytest.raises(JobFailedError, match=r"failed: no"):
        run.result(LIMIT_S)
    (call,) = heard.wait_for(Event.JOB_DEAD)
    assert call.payload[1].dead is True


def test_a_value_that_cannot_be_stored_fails_the_run(started: Quiv) -> None:
    with pytest.raises(JobFailedError, match="object"):
        declare(started, odd).submit().result(LIMIT_S)


def test_a_cancelled_run_raises(started: Quiv) -> None:
    run = declare(started, jobs.polite).submit(name="s")
    assert jobs.has_started("s")
    assert started.cancel_job(run.job_id)
    with pytest.raises(JobFailedError, match="cancelled"):
        run.result(LIMIT_S)


def test_a_result_that_does_not_come_in_time(started: Quiv) -> None:
    run = declare(started, jobs.held).submit("g")
    with pytest.raises(TimeoutError):
        run.result(0.05)


def test_one_key_is_one_run_while_it_is_kept(started: Quiv) -> None:
    handle = declare(started, jobs.held)
    first = handle.submit_with(("g",), key="invoice-7")
    assert jobs.has_started("g")
    again = handle.submit_with(("other",), key="invoice-7")
    assert (again.run_id, again.job_id) == (first.run_id, first.job_id)
    assert handle.submit_with(("other",), key="invoice-8").run_id != first.run_id
    jobs.open_all()
    assert first.result(LIMIT_S) == again.result(LIMIT_S) == "g"
    assert handle.submit_with(("later",), key="invoice-7").result(LIMIT_S) == "g"


def test_arguments_are_checked_before_anything_is_stored(started: Quiv) -> None:
    handle = declare(started, resize)
    with pytest.raises(ConfigurationError, match=r"args\[0\]"):
        handle.submit(object())
    with pytest.raises(ConfigurationError, match="stop_event"):
        declare(started, jobs.polite).submit(stop_event=1)
    assert started.get_all_jobs() == []


def test_another_instance_runs_it(make: Make) -> None:
    client, worker = make(roles={"listener"}), make(handlers=[resize])
    worker.start()
    assert declare(client, resize).submit(5).result(LIMIT_S) == "5px"


class TestOwnLoops:
    """A blocking call on a loop that others need is refused, naming the way out."""

    def test_on_the_workers_loop(self, started: Quiv) -> None:
        submit = started.handler()(resize).submit
        blocking_calls[:] = [started.get_all_tasks, started.stats, lambda: submit(1)]
        texts = declare(started, block_the_loop).submit().result(LIMIT_S)
        assert len(texts) == 3
        assert all("AsyncQuiv" in text for text in texts)
        assert "Quiv.get_all_tasks()" in texts[0]

    def test_a_loop_of_one_isolated_run_may_be_blocked(self, started: Quiv) -> None:
        found: list[Any] = []

        async def isolated() -> None:
            found.append(len(started.get_all_tasks(include_run_once=True)))

        started.start()
        task_id = started.add_task("isolated", isolated, run_once=True)
        job = started.wait_for_task(task_id, LIMIT_S)
        assert (job.status, job.error_message, found) == ("completed", None, [1])
