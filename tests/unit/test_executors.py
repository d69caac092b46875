"""Handlers run on real loops and threads, and each end is reported once."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from quiv_dist.context import current_job
from quiv_dist.core.codec import decode_result
from quiv_dist.core.spec import Executor, JobSpec
from quiv_dist.core.stop import StopEvent
from quiv_dist.exceptions import JobCancelledError
from quiv_dist.models import StopReason
from quiv_dist.worker.execution import Ended, Execution
from quiv_dist.worker.registry import HandlerRegistry
from tests.unit.execution_bench import (
    LOGGER,
    Bench,
    asked_to_stop,
    reached,
    where,
    where_async,
)
from tests.unit.loops import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.executors.close()


# Each rule that is the same everywhere is shown on all three executors: a function in a thread,
# a coroutine function on the loop, and one on a loop of its own.
EVERYWHERE = pytest.mark.parametrize("executor", ["thread", "async", "isolated"])


def as_handler(executor: Executor, func: Callable[..., Any]) -> Callable[..., Any]:
    if executor == "thread":
        return func

    @functools.wraps(func)
    async def handler(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return handler


# --- where -------------------------------------------------------------------


async def test_auto_runs_functions_in_threads_and_coroutine_functions_on_the_loop(
    bench: Bench,
) -> None:
    name, on_loop = decode_result((await bench.run(where)).result)
    assert name.startswith("quiv-worker-")
    assert not on_loop
    here = threading.current_thread().name
    assert decode_result((await bench.run(where_async)).result) == (here, True)


async def test_a_function_never_runs_on_the_loop(bench: Bench) -> None:
    executors: list[Executor] = ["async", "isolated", "thread"]
    for executor in executors:
        ended = await bench.run(where, executor=executor)
        assert not decode_result(ended.result)[1]


async def test_isolated_gives_a_fresh_loop_on_a_pool_thread(bench: Bench) -> None:
    executors: list[Executor] = ["isolated", "thread"]
    for executor in executors:
        name, on_loop = decode_result((await bench.run(where_async, executor=executor)).result)
        assert name.startswith("quiv-worker-")
        assert on_loop
    first, second = bench.isolated_loops
    assert first is not second
    assert first.is_closed()


async def test_a_handlers_own_executor_counts_where_the_job_says_nothing(bench: Bench) -> None:
    handler = HandlerRegistry().add(where_async, executor="isolated")
    execution = Execution("job", "task", handler, b"", JobSpec(), StopEvent(), print)
    assert execution.kind() == "isolated"
    execution.spec = JobSpec(executor="async")
    assert execution.kind() == "async"


async def test_a_function_around_a_coroutine_function_is_run_to_its_end(bench: Bench) -> None:
    def decorated() -> Any:
        return where_async()

    assert decode_result((await bench.run(decorated)).result)[1]


async def test_many_coroutines_run_at_once_on_the_loop(bench: Bench) -> None:
    barrier = asyncio.Barrier(50)
    running = [bench.start(barrier.wait) for _ in range(50)]
    for execution in running:
        assert (await bench.end_of(execution)).outcome == "completed"


async def test_threads_run_at_once_up_to_the_limit_and_the_rest_waits() -> None:
    bench = Bench(threads=3)
    barrier = threading.Barrier(3, timeout=DEADLINE_S)
    running = [bench.start(barrier.wait) for _ in range(9)]
    for execution in running:
        assert (await bench.end_of(execution)).outcome == "completed"
    names = {t.name for t in threading.enumerate() if t.name.startswith("quiv-worker-")}
    prefix = bench.executors._threads._name
    assert sum(name.startswith(f"{prefix}-") for name in names) == 3
    bench.executors.close()


# --- what the handler gets ---------------------------------------------------


@EVERYWHERE
async def test_injected_values_and_arguments_reach_the_handler(
    bench: Bench, executor: Executor
) -> None:
    got: list[Any] = []

    def handler(a: int, *, b: str = "b", job_id: str, stop_event: Any, progress_hook: Any) -> None:
        got.extend((a, b, job_id, stop_event, progress_hook))

    execution = bench.start(as_handler(executor, handler), 1, executor=executor, job_id="the-job")
    assert (await bench.end_of(execution)).outcome == "completed"
    assert got == [1, "b", "the-job", execution.stop, print]


@EVERYWHERE
async def test_the_code_of_a_handler_belongs_to_its_job(bench: Bench, executor: Executor) -> None:
    seen: list[Any] = []
    execution = bench.start(
        as_handler(executor, lambda: seen.append(current_job())), executor=executor, job_id="j"
    )
    await bench.end_of(execution)
    (job,) = seen
    assert (job.job_id, job.stop_event) == ("j", execution.stop)
    assert current_job() is None


@EVERYWHERE
async def test_context_variables_do_not_leak_to_the_next_job(executor: Executor) -> None:
    bench = Bench(threads=1)
    variable = contextvars.ContextVar[str]("variable", default="clean")

    def handler() -> str:
        before = variable.get()
        variable.set("dirty")
        return before

    for _ in range(2):
        ended = await bench.run(as_handler(executor, handler), executor=executor)
        assert decode_result(ended.result) == "clean"
    bench.executors.close()


@EVERYWHERE
async def test_malformed_arguments_fail_the_job_and_do_not_call_the_handler(
    bench: Bench, executor: Executor
) -> None:
    calls: list[int] = []
    handler = as_handler(executor, lambda: calls.append(1))
    ended = await bench.run(handler, executor=executor, args_bytes=b"\xc1")
    assert ended.outcome == "failed"
    assert "malformed" in ended.error
    assert not calls


# --- how it ends -------------------------------------------------------------


@EVERYWHERE
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("boom"), "boom"),
        (SystemExit(3), "SystemExit(3)"),
        (KeyboardInterrupt(), "KeyboardInterrupt()"),
        (GeneratorExit(), "GeneratorExit()"),
        (asyncio.CancelledError(), "CancelledError()"),
        (JobCancelledError("early"), "early"),
    ],
)
async def test_whatever_a_handler_raises_fails_its_job_and_nothing_else(
    executor: Executor, error: BaseException, text: str
) -> None:
    bench = Bench(threads=1)

    def handler() -> None:
        raise error

    ended = await bench.run(as_handler(executor, handler), executor=executor)
    assert (ended.outcome, ended.error) == ("failed", text)
    # The one thread and the loop still work.
    assert (await bench.run(where)).outcome == "completed"
    assert (await bench.run(where_async)).outcome == "completed"
    bench.executors.close()


@EVERYWHERE
async def test_a_timeout_sets_the_stop_event_and_kills_nothing(
    bench: Bench, executor: Executor
) -> None:
    finished = threading.Event()

    def in_thread(stop_event: StopEvent) -> None:
        assert stop_event.wait(DEADLINE_S)
        assert stop_event.reason is StopReason.TIMEOUT
        finished.set()

    async def on_loop(stop_event: StopEvent) -> None:
        await asked_to_stop(stop_event)
        in_thread(stop_event)

    handler = in_thread if executor == "thread" else on_loop
    ended = await bench.run(handler, executor=executor, timeout_ms=20)
    assert (ended.outcome, ended.error) == ("cancelled", "Job exceeded timeout of 0.02s")
    assert finished.is_set()
    assert ended.duration_ms > 0


async def test_the_timer_of_a_job_that_ended_in_time_is_taken_down(bench: Bench) -> None:
    for func in (where, where_async):
        execution = bench.start(func, timeout_ms=60_000)
        timer = bench.executors._timers[execution]
        assert (await bench.end_of(execution)).outcome == "completed"
        assert timer.cancelled()
        assert not bench.executors._timers


async def test_no_timer_is_armed_for_a_job_without_a_timeout(bench: Bench) -> None:
    bench.start(where_async)
    assert not bench.executors._timers


@EVERYWHERE
async def test_stop_all_asks_every_running_handler_with_the_reason(
    bench: Bench, executor: Executor
) -> None:
    started = threading.Event()

    def in_thread(stop_event: StopEvent) -> None:
        started.set()
        assert stop_event.wait(DEADLINE_S)

    async def on_loop(stop_event: StopEvent) -> None:
        started.set()
        await asked_to_stop(stop_event)
        assert stop_event.is_set()

    execution = bench.start(in_thread if executor == "thread" else on_loop, executor=executor)
    await reached(started)
    bench.executors.stop_all(StopReason.SHUTDOWN)
    assert (await bench.end_of(execution)).outcome == "handback"
    assert execution.stop.reason is StopReason.SHUTDOWN


@pytest.mark.parametrize(
    ("reason", "outcome"), [(StopReason.SHUTDOWN, "handback"), (StopReason.CANCEL, "cancelled")]
)
async def test_a_job_asked_to_stop_before_it_started_never_starts(
    reason: StopReason, outcome: str
) -> None:
    bench = Bench(threads=1)
    release, calls = threading.Event(), []
    first = bench.start(lambda: release.wait(DEADLINE_S))
    queued = [bench.start(lambda: calls.append(1)), bench.start(as_handler("async", calls.append))]
    for execution in queued:
        execution.stop.set(reason)
    release.set()
    for execution in queued:
        assert (await bench.end_of(execution)).outcome == outcome
    assert not calls
    assert (await bench.end_of(first)).outcome == "completed"
    bench.executors.close()


async def test_a_task_cancelled_from_outside_fails_as_in_quiv(bench: Bench) -> None:
    started = threading.Event()

    async def handler() -> None:
        started.set()
        await asyncio.Event().wait()

    execution = bench.start(handler)
    await reached(started)
    bench.executors._tasks[execution].cancel()
    ended = await bench.end_of(execution)
    assert (ended.outcome, ended.error) == ("failed", "CancelledError()")


# --- reports -----------------------------------------------------------------


async def test_every_end_is_reported_once_on_the_loops_thread(bench: Bench) -> None:
    running = [bench.start(func) for _ in range(200) for func in (where, where_async)]
    running += [bench.start(where_async, executor="isolated") for _ in range(20)]
    assert bench.executors.running() == len(running)
    for execution in running:
        await bench.end_of(execution)
    assert len(bench.ended) == len(running)
    assert {execution for execution, _ in bench.ended} == set(running)
    assert bench.ended_on == {threading.current_thread()}
    assert bench.executors.running() == 0


async def test_a_report_that_fails_is_logged_and_the_next_one_is_made(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reported = asyncio.Event()

    def fail_once(execution: Execution, ended: Ended) -> None:
        monkeypatch.setattr(bench.executors, "_on_ended", bench._on_ended)
        reported.set()
        raise RuntimeError("consumer")

    monkeypatch.setattr(bench.executors, "_on_ended", fail_once)
    bench.start(where, job_id="lost-job")
    await asyncio.wait_for(reported.wait(), DEADLINE_S)
    assert (await bench.run(where)).outcome == "completed"
    assert "lost-job" in caplog.text
    assert bench.executors.running() == 0


async def test_a_log_that_fails_keeps_no_end_from_being_reported(bench: Bench) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    broken = Broken()
    LOGGER.addHandler(broken)
    LOGGER.setLevel(logging.INFO)
    try:
        for func in (where, where_async):
            assert (await bench.run(func)).outcome == "completed"
    finally:
        LOGGER.removeHandler(broken)
        LOGGER.setLevel(logging.NOTSET)
