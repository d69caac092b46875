from __future__ import annotations

import asyncio
import gc
import logging
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import pytest

from quiv_dist import context
from quiv_dist.context import (
    call_on_main,
    current_job,
    job_context,
    register_active,
    run_on_main,
    unregister_active,
)
from quiv_dist.core.stop import StopEvent
from quiv_dist.events.mainloop import MainLoop, MainLoopWork, mark_own_loop, running_loop
from quiv_dist.exceptions import JobCancelledError, MainLoopUnavailableError
from quiv_dist.models import StopReason
from tests.unit.loops import DEADLINE_S, in_thread, loop_in_thread, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class App:
    """What the module needs of an instance."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.main_loop = MainLoop(loop)
        self.main_loop_work = MainLoopWork()
        self.logger = logging.getLogger("Quiv")


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with loop_in_thread() as loop:
        yield loop


@pytest.fixture
def app(loop: asyncio.AbstractEventLoop) -> Iterator[App]:
    app = App(loop)
    register_active(app)
    yield app
    unregister_active(app)


@pytest.fixture
def worker() -> Iterator[App]:
    worker = App()
    register_active(worker)
    yield worker
    unregister_active(worker)


async def where() -> asyncio.AbstractEventLoop | None:
    await asyncio.sleep(0)
    return running_loop()


def plain(func: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap a coroutine function so that only its result tells that it is one."""

    def call() -> Any:
        return func()

    return call


SHAPES: dict[str, Callable[..., Any]] = {
    "function": running_loop,
    "coroutine function": where,
    "function returning a coroutine": plain(where),
}


def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> Any:
    """Make a call on the thread of a loop and return what it gave."""

    async def run() -> Any:
        return call()

    return asyncio.run_coroutine_threadsafe(run(), loop).result(DEADLINE_S)


@pytest.mark.parametrize("shape", SHAPES)
def test_call_on_main_returns_what_ran_on_the_main_loop(
    app: App, loop: asyncio.AbstractEventLoop, shape: str
) -> None:
    assert call_on_main(SHAPES[shape]) is loop
    assert app.main_loop_work.pending() == 0


def test_call_on_main_passes_every_argument_on(app: App) -> None:
    def both(*args: int, **kwargs: int) -> object:
        return args, kwargs

    assert call_on_main(both, 1, 2, loop=3, caller=4) == ((1, 2), {"loop": 3, "caller": 4})


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError("slow")])
@pytest.mark.parametrize("is_async", [True, False])
def test_call_on_main_raises_what_the_work_raised(
    app: App, error: Exception, is_async: bool
) -> None:
    def fails() -> None:
        raise error

    async def fails_async() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        call_on_main(fails_async if is_async else fails)


def test_call_on_main_is_given_up_when_the_job_is_asked_to_stop(
    app: App, loop: asyncio.AbstractEventLoop
) -> None:
    stop = StopEvent()
    started, cancelled = threading.Event(), threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def stop_when_started() -> None:
        started.wait(DEADLINE_S)
        stop.set(StopReason.TIMEOUT)

    in_thread(stop_when_started)
    with job_context(app, "job-1", stop), pytest.raises(JobCancelledError, match="job-1"):
        call_on_main(work)
    assert cancelled.wait(DEADLINE_S)
    assert stop.seen
    settle(loop)
    assert app.main_loop_work.pending() == 0


def test_a_stop_outside_of_the_wait_is_not_seen_by_call_on_main(app: App) -> None:
    stop = StopEvent()
    with job_context(app, "job-1", stop):
        assert call_on_main(lambda: 1) == 1
    stop.set()
    assert not stop.seen


def test_work_cancelled_by_the_application_raises_cancelled(app: App) -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(CancelledError):
        call_on_main(work)


def test_call_on_main_does_not_wait_for_a_loop_that_was_closed_under_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.new_event_loop()
    app = App(loop)
    handed_over = threading.Event()
    hand_over = loop.call_soon_threadsafe

    def tell(*args: Any, **kwargs: Any) -> asyncio.Handle:
        handle = hand_over(*args, **kwargs)
        handed_over.set()
        return handle

    monkeypatch.setattr(loop, "call_soon_threadsafe", tell)
    errors: list[BaseException] = []

    def handler() -> None:
        with job_context(app, "job-1", StopEvent()):
            try:
                call_on_main(lambda: None)
            except MainLoopUnavailableError as exc:
                errors.append(exc)

    # The loop never runs, so what is handed over is lost with it.
    waiting = in_thread(handler)
    assert handed_over.wait(DEADLINE_S)
    assert app.main_loop_work.pending() == 1
    with pytest.warns(RuntimeWarning, match="never awaited"):  # noqa: PT031 - collected late
        loop.close()
        waiting.join(DEADLINE_S)
        gc.collect()
    assert len(errors) == 1
    assert app.main_loop_work.pending() == 0


def test_on_the_main_loops_thread_call_on_main_runs_functions_inline(
    app: App, loop: asyncio.AbstractEventLoop
) -> None:
    assert on_loop(loop, lambda: call_on_main(running_loop)) is loop


@pytest.mark.parametrize("shape", ["coroutine function", "function returning a coroutine"])
def test_on_the_main_loops_thread_call_on_main_refuses_to_wait(
    app: App, loop: asyncio.AbstractEventLoop, shape: str
) -> None:
    with pytest.raises(MainLoopUnavailableError, match="await it"):
        on_loop(loop, lambda: call_on_main(SHAPES[shape]))
    gc.collect()


@pytest.mark.parametrize("shape", SHAPES)
def test_call_on_main_is_refused_on_a_workers_shared_loop(app: App, shape: str) -> None:
    with loop_in_thread() as shared:
        mark_own_loop(shared, shared=True)
        with pytest.raises(MainLoopUnavailableError, match='executor="isolated"'):
            on_loop(shared, lambda: call_on_main(SHAPES[shape]))


def test_call_on_main_works_from_an_isolated_loop(
    app: App, loop: asyncio.AbstractEventLoop
) -> None:
    with loop_in_thread() as isolated:
        mark_own_loop(isolated, shared=False)
        assert on_loop(isolated, lambda: call_on_main(where)) is loop


@pytest.mark.parametrize("call", [run_on_main, call_on_main])
def test_without_an_instance_both_say_to_start_one(call: Callable[..., Any]) -> None:
    with pytest.raises(MainLoopUnavailableError, match=r"start\(\)"):
        call(print)


@pytest.mark.parametrize("call", [run_on_main, call_on_main])
def test_without_a_main_loop_both_name_progress_hook_and_listeners(
    worker: App, call: Callable[..., Any]
) -> None:
    with pytest.raises(MainLoopUnavailableError, match=r"progress_hook.*add_listener"):
        call(print)
    assert worker.main_loop_work.pending() == 0


@pytest.mark.parametrize("call", [run_on_main, call_on_main])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_loop_closed_after_it_was_resolved_is_an_unavailable_one(
    call: Callable[..., Any], shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    app = App(closed)
    monkeypatch.setattr(app.main_loop, "resolve", lambda: closed)
    with (
        job_context(app, "job-1", StopEvent()),
        pytest.raises(MainLoopUnavailableError, match="closed"),
    ):
        call(SHAPES[shape])
    gc.collect()
    assert app.main_loop_work.pending() == 0


@pytest.mark.parametrize("on_main_thread", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_run_on_main_runs_on_the_main_loop_and_counts_until_it_has_finished(
    app: App, loop: asyncio.AbstractEventLoop, shape: str, on_main_thread: bool
) -> None:
    ran: list[asyncio.AbstractEventLoop | None] = []

    def function() -> None:
        ran.append(running_loop())

    async def coroutine() -> None:
        ran.append(await where())

    func = {
        "function": function,
        "coroutine function": coroutine,
        "function returning a coroutine": plain(coroutine),
    }[shape]
    if on_main_thread:
        on_loop(loop, lambda: run_on_main(func))
    else:
        run_on_main(func)
    settle(loop)
    assert ran == [loop]
    assert app.main_loop_work.pending() == 0


def test_run_on_main_does_not_wait_and_is_pending_until_the_end(
    app: App, loop: asyncio.AbstractEventLoop
) -> None:
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()

    run_on_main(work)
    run_on_main(plain(work))
    settle(loop)
    gc.collect()
    assert app.main_loop_work.pending() == 2
    loop.call_soon_threadsafe(gate.set)
    settle(loop)
    assert app.main_loop_work.pending() == 0


def test_run_on_main_counts_what_the_loop_has_not_begun() -> None:
    loop = asyncio.new_event_loop()
    app = App(loop)
    with job_context(app, "job-1", StopEvent()):
        run_on_main(lambda: None)
        run_on_main(where)
    assert app.main_loop_work.pending() == 2

    async def turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(turns())
    assert app.main_loop_work.pending() == 0
    loop.close()


@pytest.mark.parametrize("on_main_thread", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
def test_a_failure_in_run_on_main_is_logged_and_reaches_nobody(
    app: App,
    loop: asyncio.AbstractEventLoop,
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
    on_main_thread: bool,
) -> None:
    def fails() -> None:
        raise ValueError("no socket")

    async def fails_async() -> None:
        raise ValueError("no socket")

    func = fails_async if is_async else fails
    if on_main_thread:
        on_loop(loop, lambda: run_on_main(func))
    else:
        run_on_main(func)
    settle(loop)
    (record,) = caplog.records
    assert "no socket" in record.getMessage()
    assert func.__name__ in record.getMessage()
    assert app.main_loop_work.pending() == 0


def test_cancelled_work_of_run_on_main_is_not_an_error(
    app: App, loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    run_on_main(work)
    settle(loop)
    assert caplog.records == []
    assert app.main_loop_work.pending() == 0


def test_the_instance_of_the_job_wins_over_the_one_started_last(
    app: App, loop: asyncio.AbstractEventLoop
) -> None:
    with loop_in_thread() as other, job_context(App(other), "job-1", StopEvent()):
        assert call_on_main(where) is other
        assert asyncio.run(_to_thread(lambda: call_on_main(where))) is other
    assert call_on_main(where) is loop


async def _to_thread(call: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(call)


def test_a_job_without_an_instance_uses_the_one_of_the_process(
    app: App, loop: asyncio.AbstractEventLoop
) -> None:
    with job_context(None, "job-1", StopEvent()):
        assert call_on_main(where) is loop


def test_the_job_context_ends_with_its_block() -> None:
    outer, inner = StopEvent(), StopEvent()
    assert current_job() is None
    with job_context(None, "outer", outer), job_context(None, "inner", inner) as job:
        assert current_job() is job
        assert (job.job_id, job.stop_event) == ("inner", inner)
    assert current_job() is None


def test_the_job_does_not_reach_a_thread_that_a_handler_starts() -> None:
    seen: list[object] = []
    with job_context(None, "job-1", StopEvent()):
        in_thread(lambda: seen.append(current_job())).join(DEADLINE_S)
    assert seen == [None]


def test_a_second_started_instance_is_used_with_a_warning(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    register_active(app)
    assert caplog.records == []
    with loop_in_thread() as other:
        newer = App(other)
        register_active(newer)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        unregister_active(app)
        assert call_on_main(where) is other
        unregister_active(newer)
    with pytest.raises(MainLoopUnavailableError):
        call_on_main(where)


def test_public_names_import_from_where_quiv_has_them() -> None:
    assert {"run_on_main", "call_on_main"} <= set(vars(context))
