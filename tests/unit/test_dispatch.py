from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from quiv_dist.events.dispatch import Dispatcher
from quiv_dist.events.listener_thread import ListenerThread
from quiv_dist.events.mainloop import MainLoop, is_own_loop, mark_own_loop, running_loop
from quiv_dist.events.registry import ListenerRegistry
from quiv_dist.models import Event, Node, Task
from tests.unit.loops import DEADLINE_S, loop_in_thread, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TASK = Task(id="1", task_name="billing-daily", next_run_at=datetime(2026, 1, 1, tzinfo=UTC))


class Heard:
    """Callbacks of every shape, and where each was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.threads: list[threading.Thread] = []
        self.loops: list[asyncio.AbstractEventLoop | None] = []
        self.called = threading.Event()

    def sync(self, *payload: Any) -> None:
        self.calls.append(payload)
        self.threads.append(threading.current_thread())
        self.loops.append(running_loop())
        self.called.set()

    async def coroutine(self, *payload: Any) -> None:
        # Something that needs a working loop, so that a fake one would be found out.
        await asyncio.sleep(0)
        self.sync(*payload)

    def shapes(self) -> dict[str, Callable[..., Any]]:
        heard = self

        class AsyncCallable:
            async def __call__(self, *payload: Any) -> None:
                await heard.coroutine(*payload)

        async def with_prefix(_prefix: str, *payload: Any) -> None:
            await heard.coroutine(*payload)

        return {
            "coroutine function": self.coroutine,
            "partial of one": functools.partial(with_prefix, "p"),
            "partial of a partial": functools.partial(functools.partial(with_prefix), "p"),
            "object with async __call__": AsyncCallable(),
            "partial of such an object": functools.partial(AsyncCallable()),
            "lambda returning a coroutine": lambda *payload: self.coroutine(*payload),  # noqa: PLW0108
        }


ASYNC_SHAPES = list(Heard().shapes())


class Local:
    """A dispatcher and what it is made of."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.registry = ListenerRegistry()
        self.listener_thread = ListenerThread()
        self.dispatcher = Dispatcher(self.registry, MainLoop(loop), self.listener_thread)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with loop_in_thread() as loop:
        yield loop


@pytest.fixture
def local() -> Iterator[Local]:
    local = Local()
    yield local
    local.listener_thread.stop(DEADLINE_S)


def test_available_async_runs_on_the_main_loop(
    heard: Heard, loop: asyncio.AbstractEventLoop
) -> None:
    local = Local(loop)
    local.registry.add(Event.TASK_ADDED, heard.coroutine)
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
    assert heard.called.wait(DEADLINE_S)
    assert heard.calls == [(Event.TASK_ADDED, TASK)]
    assert heard.loops == [loop]


def test_available_sync_is_called_on_the_main_loop(
    heard: Heard, loop: asyncio.AbstractEventLoop
) -> None:
    local = Local(loop)
    local.registry.add(Event.TASK_ADDED, heard.sync)
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
    assert heard.called.wait(DEADLINE_S)
    assert heard.calls == [(Event.TASK_ADDED, TASK)]
    assert heard.loops == [loop]


async def test_available_listeners_run_after_the_call_returned_on_the_loops_own_thread(
    heard: Heard,
) -> None:
    local = Local()
    local.registry.add(Event.TASK_ADDED, heard.sync)
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
    assert heard.calls == []
    await asyncio.sleep(0)
    assert heard.loops == [asyncio.get_running_loop()]


def test_unavailable_sync_is_called_directly_on_the_calling_thread(
    heard: Heard, local: Local
) -> None:
    local.registry.add(Event.TASK_ADDED, heard.sync)
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
    assert heard.calls == [(Event.TASK_ADDED, TASK)]
    assert heard.threads == [threading.current_thread()]
    assert heard.loops == [None]


def test_unavailable_async_runs_in_a_temporary_loop_on_the_calling_thread(
    heard: Heard, local: Local
) -> None:
    local.registry.add(Event.TASK_ADDED, heard.coroutine)
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
    assert heard.calls == [(Event.TASK_ADDED, TASK)]
    assert heard.threads == [threading.current_thread()]
    temporary = heard.loops[0]
    assert temporary is not None
    assert temporary.is_closed()
    assert is_own_loop(temporary), "it could be taken for the application's main loop"


def test_a_temporary_loop_leaves_the_current_loop_of_the_thread_alone(
    heard: Heard, local: Local
) -> None:
    current = asyncio.new_event_loop()
    asyncio.set_event_loop(current)
    try:
        local.dispatcher.call(heard.coroutine, "A callback")
        assert heard.calls == [()]
        assert asyncio.get_event_loop_policy().get_event_loop() is current
    finally:
        asyncio.set_event_loop(None)
        current.close()


@pytest.mark.parametrize("shape", ASYNC_SHAPES)
def test_available_every_async_shape_runs_on_the_main_loop(
    heard: Heard, loop: asyncio.AbstractEventLoop, shape: str
) -> None:
    Local(loop).dispatcher.call(heard.shapes()[shape], "A callback", 1)
    assert heard.called.wait(DEADLINE_S)
    assert heard.calls == [(1,)]
    assert heard.loops == [loop]


@pytest.mark.parametrize("shape", ASYNC_SHAPES)
def test_unavailable_every_async_shape_runs_in_a_temporary_loop(
    heard: Heard, local: Local, shape: str
) -> None:
    local.dispatcher.call(heard.shapes()[shape], "A callback", 1)
    assert heard.calls == [(1,)]
    assert heard.threads == [threading.current_thread()]
    assert heard.loops != [None]


@pytest.mark.parametrize("shape", ASYNC_SHAPES)
@pytest.mark.parametrize("shared", [True, False])
def test_unavailable_async_where_an_own_loop_runs_goes_to_the_listener_thread(
    heard: Heard, local: Local, shape: str, shared: bool
) -> None:
    listener = heard.shapes()[shape]

    async def handler() -> None:
        mark_own_loop(asyncio.get_running_loop(), shared=shared)
        local.dispatcher.call(listener, "A callback", 1)
        local.dispatcher.call(listener, "A callback", 2)

    asyncio.run(handler())
    assert local.listener_thread.stop(DEADLINE_S)
    assert heard.calls == [(1,), (2,)]
    assert {thread.name for thread in heard.threads} == {"quiv-listeners"}


@pytest.mark.parametrize("shape", ASYNC_SHAPES)
def test_a_stopped_listener_thread_drops_it_without_an_unawaited_coroutine(
    heard: Heard, local: Local, shape: str
) -> None:
    local.listener_thread.stop(DEADLINE_S)

    async def handler() -> None:
        mark_own_loop(asyncio.get_running_loop(), shared=True)
        local.dispatcher.call(heard.shapes()[shape], "A callback", 1)

    asyncio.run(handler())
    gc.collect()
    assert heard.calls == []


def test_a_future_that_a_sync_listener_made_is_left_to_its_own_loop(local: Local) -> None:
    finished: list[bool] = []

    async def work() -> None:
        finished.append(True)

    async def handler() -> None:
        mark_own_loop(asyncio.get_running_loop(), shared=False)
        tasks: list[asyncio.Task[None]] = []

        def listener() -> asyncio.Task[None]:
            tasks.append(asyncio.create_task(work()))
            return tasks[0]

        local.dispatcher.call(listener, "A callback")
        await tasks[0]

    asyncio.run(handler())
    assert finished == [True]
    assert local.listener_thread.backlog == 0


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
def test_a_raising_listener_is_logged_and_stops_no_other(
    heard: Heard,
    loop: asyncio.AbstractEventLoop,
    caplog: pytest.LogCaptureFixture,
    available: bool,
    is_async: bool,
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("the disk is full")

    async def broken_async(*_: Any) -> None:
        raise ValueError("the disk is full")

    local = Local(loop if available else None)
    local.registry.add(Event.JOB_FAILED, broken_async if is_async else broken)
    local.registry.add(Event.JOB_FAILED, heard.sync)
    with caplog.at_level(logging.ERROR, logger="Quiv"):
        local.dispatcher.dispatch(Event.JOB_FAILED, TASK, "job")
        settle(loop)
    assert heard.calls == [(Event.JOB_FAILED, TASK, "job")]
    (record,) = caplog.records
    assert record.name == "Quiv"
    for part in ("job_failed", "broken_async" if is_async else "broken", "the disk is full"):
        assert part in record.getMessage()
    assert record.exc_info is not None


@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
def test_a_listener_with_the_wrong_signature_is_logged(
    loop: asyncio.AbstractEventLoop,
    caplog: pytest.LogCaptureFixture,
    available: bool,
    is_async: bool,
) -> None:
    def takes_nothing() -> None: ...

    async def takes_nothing_async() -> None: ...

    local = Local(loop if available else None)
    local.registry.add(Event.TASK_ADDED, takes_nothing_async if is_async else takes_nothing)
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
    settle(loop)
    (record,) = caplog.records
    assert "takes_nothing" in record.getMessage()
    assert "positional argument" in record.getMessage()


@pytest.mark.parametrize("is_async", [True, False])
def test_a_listener_that_raises_cancelled_does_not_reach_the_caller(
    local: Local, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    def cancelled() -> None:
        raise asyncio.CancelledError

    async def cancelled_async() -> None:
        raise asyncio.CancelledError

    local.dispatcher.call(cancelled_async if is_async else cancelled, "A callback")
    assert "A callback failed in" in caplog.text


@pytest.mark.parametrize("shape", ["sync", *ASYNC_SHAPES])
def test_a_loop_closed_after_it_was_resolved_is_logged_and_nothing_raised(
    heard: Heard, caplog: pytest.LogCaptureFixture, shape: str
) -> None:
    class ClosedInBetween(MainLoop):
        def resolve(self) -> asyncio.AbstractEventLoop | None:
            loop = super().resolve()
            assert loop is not None
            loop.close()
            return loop

    main_loop = ClosedInBetween(asyncio.new_event_loop())
    dispatcher = Dispatcher(ListenerRegistry(), main_loop, ListenerThread())
    dispatcher.call(heard.shapes().get(shape, heard.sync), "A callback")
    # An unawaited coroutine warns here, and warnings are errors.
    gc.collect()
    assert heard.calls == []
    assert "A callback failed in" in caplog.text
    assert "closed" in caplog.text


@pytest.mark.parametrize("is_async", [True, False])
def test_a_closed_loop_is_an_unavailable_one(heard: Heard, is_async: bool) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    Local(loop).dispatcher.call(heard.coroutine if is_async else heard.sync, "A callback")
    assert heard.threads == [threading.current_thread()]


def test_listeners_are_called_in_registration_order_twice_if_registered_twice(
    loop: asyncio.AbstractEventLoop,
) -> None:
    for local in (Local(), Local(loop)):
        order: list[str] = []
        first = functools.partial(lambda order, *_: order.append("first"), order)
        second = functools.partial(lambda order, *_: order.append("second"), order)
        for listener in (second, first, second):
            local.registry.add(Event.TASK_ADDED, listener)
        local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
        settle(loop)
        assert order == ["second", "first", "second"]


def test_a_listener_may_remove_itself_and_add_another_while_it_is_called(local: Local) -> None:
    calls: list[str] = []

    def once(*_: Any) -> None:
        calls.append("once")
        local.registry.remove(Event.TASK_ADDED, once)
        local.registry.add(Event.TASK_ADDED, later)

    def later(*_: Any) -> None:
        calls.append("later")

    local.registry.add(Event.TASK_ADDED, once)
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
    assert calls == ["once", "later"]


def test_a_filter_is_compared_with_the_name_of_the_events_task(local: Local, heard: Heard) -> None:
    local.registry.add(Event.TASK_ADDED, heard.sync, task_name="billing-*")
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK.model_copy(update={"task_name": "other"}))
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
    assert heard.calls == [(Event.TASK_ADDED, TASK)]


def test_an_event_without_a_task_reaches_its_listeners(local: Local, heard: Heard) -> None:
    node = Node(id="n")
    local.registry.add(Event.NODE_JOINED, heard.sync)
    local.dispatcher.dispatch(Event.NODE_JOINED, node)
    assert heard.calls == [(Event.NODE_JOINED, node)]


@pytest.mark.parametrize("is_async", [True, False])
def test_progress_takes_positional_and_keyword_payloads_of_any_name(
    loop: asyncio.AbstractEventLoop, is_async: bool
) -> None:
    for local in (Local(), Local(loop)):
        got: list[object] = []

        def progress(*args: object, got: list[object] = got, **kwargs: object) -> None:
            got.append((args, kwargs))

        async def progress_async(
            *args: object, record: Callable[..., None] = progress, **kwargs: object
        ) -> None:
            record(*args, **kwargs)

        callback = progress_async if is_async else progress
        local.dispatcher.call(callback, "Progress", 1, label="a", callback=2)
        settle(loop)
        assert got == [((1,), {"label": "a", "callback": 2})]


def test_an_async_listener_may_itself_cause_an_event(local: Local) -> None:
    depth: list[Event] = []

    async def listener(event: Event, *_: Any) -> None:
        depth.append(event)
        if event is Event.TASK_ADDED:
            local.dispatcher.dispatch(Event.TASK_PAUSED, TASK)

    local.registry.add(Event.TASK_ADDED, listener)
    local.registry.add(Event.TASK_PAUSED, listener)
    local.dispatcher.dispatch(Event.TASK_ADDED, TASK)
    assert local.listener_thread.stop(DEADLINE_S)
    assert depth == [Event.TASK_ADDED, Event.TASK_PAUSED]
