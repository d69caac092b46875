"""Where handlers run: on the worker's loop, on a thread, or on a thread with a loop of its own.

However a handler ends, its ``Execution`` is reported once, on the worker's loop. Timeouts are
cooperative, as in quiv: they set the stop event and never kill.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from quiv_dist.core.stop import StopEvent
from quiv_dist.exceptions import JobCancelledError
from quiv_dist.models import StopReason
from quiv_dist.worker.threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from logging import Logger

    from quiv_dist.worker.execution import Ended, Execution


JobContextFactory = Callable[[str, StopEvent], AbstractContextManager[object]]


class Executors:
    """Runs executions and reports their ends. All methods are called on the loop's thread.

    Args:
        loop: The worker's own loop: async handlers run on it, reports are made on it.
        threads: How many functions and isolated coroutine functions run at once; more wait.
        logger: Is told of starts, ends and failures.
        on_ended: Called with each execution and its end, once.
        job_context: Makes the context that marks code as belonging to a job, from the job's id
            and stop event.
        new_loop: Makes the event loop of one isolated run.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        threads: int,
        logger: Logger,
        on_ended: Callable[[Execution, Ended], None],
        job_context: JobContextFactory,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self._loop = loop
        self._logger = logger
        self._on_ended = on_ended
        self._job_context = job_context
        self._new_loop = new_loop
        self._threads = DaemonThreads(threads, logger)
        self._tasks: dict[Execution, asyncio.Task[None]] = {}
        self._threaded: set[Execution] = set()
        self._timers: dict[Execution, asyncio.TimerHandle] = {}
        # Ends of threaded executions on their way to the loop, and whether it has been woken.
        self._finished: deque[tuple[Execution, Ended]] = deque()
        self._woken = False

    def start(self, execution: Execution) -> None:
        """Run an execution; never blocks and never raises what the handler does."""
        kind = execution.kind()
        timeout_ms = execution.spec.timeout_ms
        if timeout_ms is not None:
            self._timers[execution] = self._loop.call_later(
                timeout_ms / 1000, execution.stop.set, StopReason.TIMEOUT
            )
        if kind == "async":
            self._tasks[execution] = self._loop.create_task(self._run_async(execution))
            return
        self._threaded.add(execution)
        run = self._run_isolated if kind == "isolated" else self._run_function
        self._threads.post(partial(self._run_threaded, execution, run), busy=len(self._threaded))

    def running(self) -> int:
        """Return how many executions have been started and not reported."""
        return len(self._tasks) + len(self._threaded)

    def stop_all(self, reason: StopReason) -> None:
        """Ask every running handler to stop."""
        for execution in [*self._tasks, *self._threaded]:
            execution.stop.set(reason)

    def close(self) -> None:
        """Report what is still running as it stands, and let go of it.

        What was not asked to stop is, with reason ``shutdown``. Coroutines are cancelled.
        Functions cannot be: their threads go on, end with the process, and what they return
        is dropped.
        """
        self.stop_all(StopReason.SHUTDOWN)
        tasks = dict(self._tasks)
        abandoned = JobCancelledError("the worker ended before the handler did")
        for execution in [*tasks, *self._threaded]:
            self._report(execution, execution.end(self._logger, None, abandoned))
        for task in tasks.values():
            task.cancel()
        self._threads.close()

    def _report(self, execution: Execution, ended: Ended) -> None:
        if execution in self._threaded:
            self._threaded.remove(execution)
        elif self._tasks.pop(execution, None) is None:
            # It was reported by close(), and somebody else may be running the job now.
            return
        if self._timers:
            timer = self._timers.pop(execution, None)
            if timer is not None:
                timer.cancel()
        try:
            self._on_ended(execution, ended)
        except Exception:
            self._logger.exception("The end of job %s could not be taken", execution.job_id)

    async def _run_async(self, execution: Execution) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            execution.begin(self._logger)
            with self._job_context(execution.job_id, execution.stop):
                args, kwargs = execution.arguments()
                value = await execution.handler.func(*args, **kwargs)
        except BaseException as exc:
            if isinstance(exc, GeneratorExit) and not self._loop.is_running():
                # The loop is gone, and with it whoever would hear of an end.
                raise
            # SystemExit too: it would end the loop, and with it every other job.
            error = exc
        self._report(execution, execution.end(self._logger, value, error))

    # --- on a pool thread ----------------------------------------------------

    def _run_threaded(self, execution: Execution, run: Callable[[Execution], Any]) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            execution.begin(self._logger)
            # A context of its own, so that what a handler sets is not found by the next one.
            value = Context().run(run, execution)
        except BaseException as exc:  # noqa: BLE001
            # SystemExit too: it would end the thread without a word.
            error = exc
        self._finished.append((execution, execution.end(self._logger, value, error)))
        # Reset before the queue is emptied, so an end is never left behind; at worst the loop
        # is woken once too often.
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._report_finished)
            except RuntimeError:
                self._logger.debug("Job %s ended after its worker's loop", execution.job_id)

    def _report_finished(self) -> None:
        self._woken = False
        # What comes meanwhile wakes the loop again, after everyone else's turn.
        for _ in range(len(self._finished)):
            self._report(*self._finished.popleft())

    def _run_function(self, execution: Execution) -> Any:
        with self._job_context(execution.job_id, execution.stop):
            args, kwargs = execution.arguments()
            value = execution.handler.func(*args, **kwargs)
            if inspect.iscoroutine(value):
                # A plain function around a coroutine function, as decorators make them.
                return self._run_to_end(value)
            return value

    def _run_isolated(self, execution: Execution) -> Any:
        with self._job_context(execution.job_id, execution.stop):
            args, kwargs = execution.arguments()
            return self._run_to_end(execution.handler.func(*args, **kwargs))

    def _run_to_end(self, awaitable: Awaitable[Any]) -> Any:
        async def main() -> Any:
            return await awaitable

        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            return runner.run(main())
