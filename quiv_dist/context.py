"""Reaching the application's main event loop from anywhere in a job.

``run_on_main`` and ``call_on_main`` find the instance they belong to by themselves: inside a
job it is the one that runs the job, elsewhere the instance of this process that was started
last. The job travels in a context variable, so it reaches nested calls, tasks made with
``asyncio.create_task`` and ``asyncio.to_thread``, but no ``threading.Thread`` that a handler
starts for itself.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from quiv_dist.core.callables import is_async_callable
from quiv_dist.events.mainloop import (
    HandOver,
    MainLoop,
    MainLoopWork,
    is_shared_loop,
    running_loop,
)
from quiv_dist.exceptions import JobCancelledError, MainLoopUnavailableError

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable, Iterator

    from quiv_dist.core.stop import StopEvent

_logger = logging.getLogger("Quiv")

# How often a waiting call_on_main() looks whether the loop was closed under it, which no
# callback tells. Everything else wakes it at once.
_CLOSED_CHECK_S = 1.0


class Instance(Protocol):
    """What this module needs of a ``Quiv`` or ``AsyncQuiv``."""

    @property
    def main_loop(self) -> MainLoop:
        """The application's main loop."""

    @property
    def main_loop_work(self) -> MainLoopWork:
        """What was handed to it; behind ``pending_main_loop_work()``."""

    @property
    def logger(self) -> logging.Logger:
        """Where failures that reach no caller are told."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """The job that the current code belongs to."""

    instance: Instance | None
    job_id: str
    stop_event: StopEvent


_current_job: ContextVar[JobContext | None] = ContextVar("quiv_dist_current_job", default=None)


class _ActiveInstance:
    """The instance of this process that was started last and has not been shut down."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.instance: Instance | None = None


_active = _ActiveInstance()


@contextmanager
def job_context(
    instance: Instance | None, job_id: str, stop_event: StopEvent
) -> Iterator[JobContext]:
    """Mark the code inside as belonging to a job.

    Args:
        instance: The instance that runs the job; ``None`` in a child process, which has none.
        job_id: The job.
        stop_event: The event its handler is stopped by.
    """
    job = JobContext(instance, job_id, stop_event)
    token = _current_job.set(job)
    try:
        yield job
    finally:
        _current_job.reset(token)


def current_job() -> JobContext | None:
    """Return the job that the calling code belongs to, or ``None`` outside of one."""
    return _current_job.get()


def register_active(instance: Instance) -> None:
    """Make an instance that starts the one used outside of jobs; warn if it replaces another."""
    with _active.lock:
        replaced, _active.instance = _active.instance, instance
    if replaced is not None and replaced is not instance:
        _logger.warning(
            "More than one Quiv instance is started in this process: outside of jobs,"
            " run_on_main() and call_on_main() use the newest"
        )


def unregister_active(instance: Instance) -> None:
    """Forget an instance that was shut down, unless a newer one has taken its place."""
    with _active.lock:
        if _active.instance is instance:
            _active.instance = None


def run_on_main(func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Run ``func`` on the application's main event loop, without waiting for it.

    On the main loop's own thread a function runs at once and a coroutine function becomes a
    task; from any other thread both are handed over. A failure is logged and never reaches
    the caller. The job may end before the work has begun, ``shutdown()`` does not wait for it,
    and ``pending_main_loop_work()`` counts it until it has finished.

    Args:
        func: A function or coroutine function, not a coroutine.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Raises:
        MainLoopUnavailableError: If no instance is started in this process, or it has no main
            loop, as in ``quiv-worker``.
    """
    caller = "run_on_main()"
    instance, loop = _resolve(caller)
    report = _Report(func, instance.logger)
    hand_over = instance.main_loop_work.begin()

    def call() -> Any:
        return func(*args, **kwargs)

    if running_loop() is loop:
        _run_here(call, loop, hand_over, report)
    elif is_async_callable(func):
        _submit(call, loop, hand_over, caller).add_done_callback(report.failure_of)
    else:
        try:
            loop.call_soon_threadsafe(_run_here, call, loop, hand_over, report)
        except RuntimeError as exc:
            hand_over.end()
            raise _closed(caller) from exc


def call_on_main(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run ``func`` on the application's main event loop and return its result.

    The job then takes as long as the work does, fails when it fails, and when the job is asked
    to stop the coroutine on the main loop is cancelled. Outside of a job the wait has no limit.

    Args:
        func: A function or coroutine function, not a coroutine.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What ``func``, or its coroutine, returned.

    Raises:
        JobCancelledError: If the job was asked to stop before the work had finished. Let it
            pass: the job ends as its stop reason says.
        MainLoopUnavailableError: If no instance is started in this process, if it has no main
            loop or that was closed, or where waiting would block a loop that others need: for
            a coroutine function on the main loop's own thread, for anything on a worker's loop.
        Exception: Whatever ``func`` raised.
    """
    caller = "call_on_main()"
    instance, loop = _resolve(caller)
    here = running_loop()
    if here is loop:
        return _call_here(func, args, kwargs)
    if here is not None and is_shared_loop(here):
        message = (
            "call_on_main() would block the event loop that runs the other jobs of this worker."
            ' Add the task with executor="isolated", or use run_on_main(), which does not wait'
        )
        raise MainLoopUnavailableError(message)

    async def work() -> Any:
        result = func(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    future = _submit(work, loop, instance.main_loop_work.begin(), caller)
    return _wait(future, loop, func, caller)


def _wait(
    future: concurrent.futures.Future[Any],
    loop: asyncio.AbstractEventLoop,
    func: Callable[..., Any],
    caller: str,
) -> Any:
    job = current_job()
    woken = threading.Event()
    future.add_done_callback(lambda _: woken.set())
    if job is not None:
        job.stop_event.add_callback(woken.set)
    try:
        while not woken.wait(_CLOSED_CHECK_S):
            if loop.is_closed():
                # It will never run, so it must not be counted as pending for ever.
                future.cancel()
                raise _closed(caller)
    finally:
        if job is not None:
            job.stop_event.remove_callback(woken.set)
    # Work that has finished counts, even when the stop came with it. A look at the event that
    # ends the work is the handler's own: its result cannot be taken as complete any more.
    if job is not None and not future.done() and job.stop_event.is_set():
        future.cancel()
        message = f"call_on_main({func!r}) was given up: job {job.job_id} was asked to stop"
        raise JobCancelledError(message)
    return future.result()


def _call_here(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    message = (
        f"call_on_main({func!r}) cannot wait for a coroutine on the thread of the main loop that"
        " must run it: await it"
    )
    if is_async_callable(func):
        raise MainLoopUnavailableError(message)
    result = func(*args, **kwargs)
    if inspect.iscoroutine(result):
        result.close()
        raise MainLoopUnavailableError(message)
    return result


def _resolve(caller: str) -> tuple[Instance, asyncio.AbstractEventLoop]:
    job = current_job()
    instance = (job.instance if job is not None else None) or _active.instance
    if instance is None:
        message = f"{caller} found no started Quiv instance in this process: call start() first"
        raise MainLoopUnavailableError(message)
    loop = instance.main_loop.resolve()
    if loop is None:
        raise MainLoopUnavailableError(_no_main_loop(caller))
    return instance, loop


def _no_main_loop(caller: str) -> str:
    return (
        f"{caller} needs the application's main event loop, and this process has none open. In"
        " an application, pass main_loop= or call start() where the loop runs. A worker process"
        " has no main loop: send values with progress_hook, or listen to events with"
        " add_listener() in the application"
    )


def _closed(caller: str) -> MainLoopUnavailableError:
    return MainLoopUnavailableError(f"{caller} found the main event loop closed")


class _Report:
    """Logs how a callable failed that nobody waits for."""

    def __init__(self, func: Callable[..., Any], logger: logging.Logger) -> None:
        self._func = func
        self._logger = logger

    def failure(self, exc: BaseException) -> None:
        self._logger.error("run_on_main(%r) failed: %r", self._func, exc, exc_info=exc)

    def failure_of(self, future: asyncio.Future[Any] | concurrent.futures.Future[Any]) -> None:
        # Asked in this order: exception() of a cancelled future raises.
        if not future.cancelled() and (exc := future.exception()) is not None:
            self.failure(exc)


def _run_here(
    call: Callable[[], Any],
    loop: asyncio.AbstractEventLoop,
    hand_over: HandOver,
    report: _Report,
) -> None:
    """Make the call on the loop's thread; what it returns to be awaited becomes a task."""
    try:
        result = call()
        if inspect.isawaitable(result):
            future = asyncio.ensure_future(result, loop=loop)
            hand_over.follow(future)
            future.add_done_callback(report.failure_of)
            return
    except Exception as exc:  # noqa: BLE001 - application code
        report.failure(exc)
    hand_over.end()


def _submit(
    call: Callable[[], Any],
    loop: asyncio.AbstractEventLoop,
    hand_over: HandOver,
    caller: str,
) -> concurrent.futures.Future[Any]:
    """Hand the coroutine that ``call`` makes over from another thread."""
    coroutine: Any = None
    try:
        coroutine = call()
        future: concurrent.futures.Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except BaseException as exc:
        hand_over.end()
        if inspect.iscoroutine(coroutine):
            # Nobody will await it, and an unawaited coroutine warns when it is collected.
            coroutine.close()
            if isinstance(exc, RuntimeError) and loop.is_closed():
                raise _closed(caller) from exc
        raise
    hand_over.follow(future)
    return future
