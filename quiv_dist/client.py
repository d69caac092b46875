"""``AsyncQuiv``: an instance whose methods are coroutines.

``Quiv`` is generated from it, one line a method, so the two never drift apart.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import CancelledError as FutureCancelledError
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Any, Literal, TypeVar

from quiv_dist.config import (
    DEFAULT_HISTORY_RETENTION_S,
    DEFAULT_POOL_SIZE,
    QuivConfig,
)
from quiv_dist.context import register_active, unregister_active
from quiv_dist.events.mainloop import MainLoop, MainLoopWork, is_shared_loop, running_loop
from quiv_dist.events.registry import ListenerRegistry
from quiv_dist.exceptions import SchedulerStoppedError
from quiv_dist.models import Event, Job, QuivStats, Task
from quiv_dist.runtime.checks import check_callback
from quiv_dist.runtime.declared import Declarations
from quiv_dist.runtime.engine import Engine, Reply
from quiv_dist.runtime.jobs import JobCalls, JobQuery
from quiv_dist.runtime.options import TaskOptions, task_options
from quiv_dist.runtime.settings import InstanceSettings
from quiv_dist.runtime.tasks import TaskCalls
from quiv_dist.store.records import JobRow
from quiv_dist.worker.registry import HandlerRegistry

T = TypeVar("T")
IfExists = Literal["replace", "keep", "error"]


class _Unset:
    """A parameter of ``update_task`` that was not passed."""

    def __repr__(self) -> str:
        return "<unchanged>"


_UNSET = _Unset()
_BLOCKING: ContextVar[bool] = ContextVar("quiv_dist_blocking", default=False)


class AsyncQuiv(Declarations):
    """A scheduler instance for code that runs on an event loop.

    The constructor does no I/O and starts nothing; the first call connects.

    Args:
        config: ``pool_size``, ``history_retention_seconds`` and ``timezone`` in one.
        pool_size: handler threads of this instance.
        history_retention_seconds: how long a finished job can be read.
        timezone: for display only.
        logger: default ``logging.getLogger("Quiv")``.
        main_loop: the loop that listeners run on; by default the application's running one.
        redis_url: default ``QUIV_REDIS_URL``, else an embedded server of this directory.
        namespace: instances of one namespace are one fleet; default ``QUIV_NAMESPACE`` or
            ``"quiv"``.
        roles: what ``start()`` runs: a subset of ``{"scheduler", "worker", "listener"}``.
        handlers: functions to serve that no task of this instance names.
        app_version: of two live versions of an application, the higher one's declarations win.

    Raises:
        ConfigurationError: a value is not accepted.

    """

    # Where async handlers given to add_task run: on the worker's loop, many at once.
    _async_executor: Literal["async", "isolated"] = "async"

    def __init__(
        self,
        config: QuivConfig | None = None,
        pool_size: int = DEFAULT_POOL_SIZE,
        history_retention_seconds: int = DEFAULT_HISTORY_RETENTION_S,
        timezone: str | tzinfo = "UTC",
        *,
        logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
        main_loop: asyncio.AbstractEventLoop | None = None,
        redis_url: str | None = None,
        namespace: str | None = None,
        roles: Iterable[str] | None = None,
        handlers: Iterable[Callable[..., Any]] = (),
        app_version: str | None = None,
    ) -> None:
        checked = InstanceSettings.check(config, pool_size, history_retention_seconds, timezone)
        self._settings = checked.distributed(
            redis_url=redis_url, namespace=namespace, roles=roles, app_version=app_version
        )
        super().__init__(HandlerRegistry())
        self._logger: Any = logger or logging.getLogger("Quiv")
        self._main_loop = MainLoop(main_loop)
        self._main_loop_given = main_loop is not None
        self._listeners = ListenerRegistry()
        self._made: tuple[Engine, TaskCalls, JobCalls] | None = None
        for handler in handlers:
            self._handlers.add(handler)

    # One life -------------------------------------------------------------------------------------

    @property
    def settings(self) -> InstanceSettings:
        """The settings as they are; what is ``None`` comes from the environment when needed."""
        return self._settings

    def configure(self, **changes: Any) -> None:
        """Change settings before ``start()``: how commands apply their flags.

        Raises:
            ConfigurationError: the server or the namespace would change after a call has
                connected, as adding a task while the application is imported does.

        """
        self._settings = replace(self._settings, **changes)
        if self._made is not None:
            self.engine.adopt(self._settings.engine_options())

    @property
    def _parts(self) -> tuple[Engine, TaskCalls, JobCalls]:
        made = self._made
        # After a fork: threads, connections and node id are made anew.
        if made is None or made[0].pid != os.getpid():
            if made is not None and not self._main_loop_given:
                # The parent's loop is copied as it was, and runs in the parent only.
                self._main_loop = MainLoop()
            engine = Engine(
                self._settings.engine_options(), self._handlers, self._listeners,
                self._main_loop, self._logger,
            )  # fmt: skip
            tasks = TaskCalls(engine)
            if made is not None:
                tasks.inherit(made[1])
            made = self._made = (engine, tasks, JobCalls(engine))
        return made

    @property
    def engine(self) -> Engine:
        """What this instance is made of, for the commands and other views of a running one."""
        return self._parts[0]

    @property
    def _tasks(self) -> TaskCalls:
        return self._parts[1]

    @property
    def _jobs(self) -> JobCalls:
        return self._parts[2]

    async def _io(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the I/O loop and wait for it, as the caller's thread can."""
        engine = self.engine
        future = engine.submit(coroutine)
        try:
            if _BLOCKING.get():
                found: T = future.result()
                return found
            return await asyncio.wrap_future(future)
        except (FutureCancelledError, asyncio.CancelledError):
            # Either this call was cancelled, or the loop that made it has ended under it.
            if engine.stopped and future.cancelled() and not _cancelling():
                msg = "this instance was shut down before the call had ended"
                raise SchedulerStoppedError(msg) from None
            raise

    async def _call(self, coroutine: Coroutine[Any, Any, Reply]) -> Any:
        """Make a call, and tell this process's listeners on the caller's thread what it did."""
        self._main_loop.resolve()
        reply = await self._io(coroutine)
        for event, payload in reply.events:
            self.engine.dispatcher.dispatch(event, *payload)
        return reply.value

    def call_blocking(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one of this class's coroutines to its end on this thread.

        Raises:
            RuntimeError: on one of quiv-dist's own loops, which must not be blocked.

        """
        try:
            refuse_on_own_loop("this call")
        except RuntimeError:
            coroutine.close()
            raise
        return run_blocking(coroutine)

    # Life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Run this instance's roles, and store the tasks it declares."""
        engine, tasks, _ = self._parts
        self._main_loop.adopt()
        await self._io(engine.start(self._settings.roles))
        register_active(self)
        if_exists = self._settings.declared
        if if_exists != "leave" and self._settings.roles & {"scheduler", "worker"}:
            for declared in self.declared_tasks():
                await self._call(
                    tasks.add(
                        declared.func, declared.options, delay=declared.delay, run_at=None,
                        task_id=declared.task_id, if_exists=if_exists, progress_callback=None,
                        declared=True,
                    )
                )  # fmt: skip

    async def startup(self) -> None:
        """Do what ``start`` does."""
        await self.start()

    async def shutdown(self, timeout: float | None = None) -> None:
        """End this instance; stored tasks stay for the fleet.

        Args:
            timeout: seconds that running jobs are waited for after they were asked to stop;
                then they are handed back. ``None`` waits for as long as they take.

        """
        unregister_active(self)
        engine = self.engine
        if _BLOCKING.get():
            engine.shut_down(timeout)
        else:
            await asyncio.to_thread(engine.shut_down, timeout)
        left = engine.main_loop_work.pending()
        if left:
            self._logger.warning(
                "%d calls handed to the main loop by run_on_main have not finished; the loop is"
                " the application's, so they are left to it", left,
            )  # fmt: skip

    async def stop(self, timeout: float | None = None) -> None:
        """Do what ``shutdown`` does."""
        await self.shutdown(timeout)

    async def drained(self) -> None:
        """Return when this instance's worker found its queues empty and has nothing running.

        Raises:
            ConfigurationError: this instance runs no worker.

        """
        await self._io(self.engine.drained())

    @property
    def is_running(self) -> bool:
        """Whether ``start()`` was called and ``shutdown()`` was not. Reads no Redis."""
        return self._made is not None and self.engine.started

    @property
    def is_ready(self) -> bool:
        """Whether this instance also is connected and registered now. Reads no Redis."""
        return self._made is not None and self.engine.ready

    def pending_main_loop_work(self) -> int:
        """Return how many ``run_on_main`` calls of this process have not finished."""
        return self.engine.main_loop_work.pending()

    @property
    def main_loop(self) -> MainLoop:
        """The application's main loop."""
        return self._main_loop

    @property
    def main_loop_work(self) -> MainLoopWork:
        """What was handed to it."""
        return self.engine.main_loop_work

    @property
    def logger(self) -> logging.Logger:
        """Where this instance logs."""
        logger: logging.Logger = self._logger
        return logger

    # Tasks ----------------------------------------------------------------------------------------

    async def add_task(
        self,
        task_name: str,
        func: Callable[..., Any],
        interval: float | None = None,
        delay: float | None = None,
        run_once: bool = False,
        fixed_interval: bool = True,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        progress_callback: Callable[..., Any] | None = None,
        *,
        run_at: datetime | None = None,
        timeout: float | None = None,
        max_retries: int = 0,
        retry_backoff: float = 30.0,
        retry_backoff_max: float = 3600.0,
        jitter: float = 0.0,
        cron: str | None = None,
        cron_timezone: str = "UTC",
        task_id: str | None = None,
        if_exists: IfExists = "replace",
        queue: str = "default",
        priority: str = "normal",
        max_crashes: int = 3,
    ) -> str:
        """Schedule ``func``; return the task's id.

        Args:
            task_name: what people call it; not blank.
            func: a function or coroutine function. One with no importable name (a lambda,
                closure or bound method) is pinned: it runs only in this process.
            interval: seconds between runs, 0.01 or more.
            delay: seconds until the first run; a past or absent one is now.
            run_once: run once, then remove the task.
            fixed_interval: count from the grid of the first start, not from the end of a run.
            args: positional arguments.
            kwargs: keyword arguments.
            progress_callback: called with what the handler gives its ``progress_hook``.
            run_at: time of the first run, instead of ``delay``; a naive one is UTC.
            timeout: seconds after which the job's stop event is set; it never kills.
            max_retries: how often a failed run is tried again.
            retry_backoff: seconds before the first retry, doubled for each further one.
            retry_backoff_max: most seconds before a retry; never below the backoff.
            jitter: most seconds by which a run is moved, by a hash of task and time.
            cron: 5 fields, or 6 with seconds first; instead of ``interval``.
            cron_timezone: IANA zone in which the cron is read.
            task_id: an id of your own: the call is then an idempotent upsert.
            if_exists: what the upsert does with a task that is there.
            queue: routing: only workers of this queue run it.
            priority: ``"high"``, ``"normal"`` or ``"low"``.
            max_crashes: how many workers may die of a run before it is dead-lettered.

        Raises:
            ConfigurationError: a parameter is not accepted; nothing was stored.
            HandlerRegistrationError: ``func`` or ``progress_callback`` is not callable.
            RedisUnavailableError: the server gave no answer in time.

        """
        check_callback(progress_callback)
        options = task_options(
            task_name, func, interval=interval, cron=cron, cron_timezone=cron_timezone,
            run_once=run_once, fixed_interval=fixed_interval, args=args, kwargs=kwargs,
            timeout=timeout, max_retries=max_retries, retry_backoff=retry_backoff,
            retry_backoff_max=retry_backoff_max, jitter=jitter, queue=queue, priority=priority,
            max_crashes=max_crashes, async_executor=self._async_executor,
        )  # fmt: skip
        added: str = await self._call(
            self._tasks.add(
                func, options, (args or (), kwargs or {}), delay=delay, run_at=run_at,
                task_id=task_id, if_exists=if_exists, progress_callback=progress_callback,
            )
        )  # fmt: skip
        return added

    async def update_task(
        self,
        task_id: str,
        *,
        task_name: str | _Unset = _UNSET,
        interval: float | _Unset = _UNSET,
        fixed_interval: bool | _Unset = _UNSET,
        args: tuple[Any, ...] | _Unset = _UNSET,
        kwargs: dict[str, Any] | _Unset = _UNSET,
        timeout: float | _Unset | None = _UNSET,
        max_retries: int | _Unset = _UNSET,
        retry_backoff: float | _Unset = _UNSET,
        jitter: float | _Unset = _UNSET,
        progress_callback: Callable[..., Any] | _Unset | None = _UNSET,
        run_at: datetime | _Unset = _UNSET,
    ) -> Task:
        """Change what is passed, for future runs; return the task after it.

        A new ``interval`` moves the next run to now + interval; ``run_at`` names its time.

        Raises:
            TaskNotFoundError: no task has this id.
            ConfigurationError: a parameter is not accepted.
            HandlerRegistrationError: ``progress_callback`` is not callable.

        """
        given = {
            "task_name": task_name, "interval": interval, "fixed_interval": fixed_interval,
            "args": args, "kwargs": kwargs, "timeout": timeout, "max_retries": max_retries,
            "retry_backoff": retry_backoff, "jitter": jitter,
            "progress_callback": progress_callback, "run_at": run_at,
        }  # fmt: skip
        changes = {name: value for name, value in given.items() if value is not _UNSET}
        task: Task = await self._call(self._tasks.update(task_id, changes))
        return task

    async def remove_task(self, task_id: str) -> None:
        """Remove a task: queued runs are cancelled, running ones asked to stop.

        Raises:
            TaskNotFoundError: no task has this id.

        """
        await self._call(self._tasks.remove(task_id))

    async def pause_task(self, task_id: str, *, reason: str | None = None) -> None:
        """Pause a task; running jobs finish. ``reason`` is kept and shown.

        Raises:
            TaskNotFoundError: no task has this id.

        """
        await self._call(self._tasks.pause(task_id, reason=reason))

    async def resume_task(self, task_id: str, delay: float | None = None) -> None:
        """Resume a task: next run at now + ``delay`` seconds; a cron's at its next time.

        Raises:
            TaskNotFoundError: no task has this id.
            TaskRunningError: a run of it is live.

        """
        await self._call(self._tasks.resume(task_id, delay=delay))

    async def run_task_immediately(self, task_id: str) -> int:
        """Run a task now; return how many runs were queued (1).

        An interval's next run is brought forward and its grid anchored there; a cron gets an
        extra run.

        Raises:
            TaskNotFoundError: no task has this id.
            TaskNotActiveError: it is paused.
            TaskRunningError: a run of it is live.

        """
        queued: int = await self._call(self._tasks.run_now(task_id))
        return queued

    async def get_task(self, task_id: str) -> Task:
        """Return a task.

        Raises:
            TaskNotFoundError: no task has this id.

        """
        task: Task = await self._call(self._tasks.get(task_id))
        return task

    async def get_all_tasks(
        self,
        include_run_once: bool = False,
        status: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        task_name: str | None = None,
    ) -> list[Task]:
        """Return tasks by next run; run-once ones only if asked for."""
        tasks: list[Task] = await self._call(
            self._tasks.find(
                include_run_once=include_run_once, status=status, limit=limit, offset=offset,
                task_name=task_name,
            )
        )  # fmt: skip
        return tasks

    # Jobs -----------------------------------------------------------------------------------------

    async def get_job(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            JobNotFoundError: no job has this id, or it is past its retention.

        """
        job: Job = await self._call(self._jobs.get(job_id))
        return job

    async def get_all_jobs(
        self,
        status: str | None = None,
        task_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        order_by: str = "started_at",
        descending: bool = True,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Job]:
        """Return jobs; ``since`` and ``until`` bound ``started_at``, a naive one is UTC.

        Raises:
            ConfigurationError: ``order_by`` is neither ``"started_at"`` nor ``"ended_at"``.

        """
        query = JobQuery(status, task_id, since, until, order_by, descending, limit, offset)
        jobs: list[Job] = await self._call(self._jobs.find(query))
        return jobs

    async def cancel_job(self, job_id: str) -> bool:
        """Cancel a job anywhere in the fleet; ``False`` for an unknown or finished one."""
        stored: bool = await self._call(self._jobs.cancel(job_id))
        return stored

    async def wait_for_job(self, job_id: str, timeout: float | None = None) -> Job:
        """Return a job when it has ended, wherever it runs.

        Raises:
            JobNotFoundError: no job has this id.
            TimeoutError: it had not ended after ``timeout`` seconds.
            SchedulerStoppedError: this instance was shut down first.

        """
        job: Job = await self._call(self._jobs.wait_for_job(job_id, timeout))
        return job

    async def wait_for_task(self, task_id: str, timeout: float | None = None) -> Job:
        """Return the next job of a task to end; errors as in ``wait_for_job``.

        Raises:
            TaskNotFoundError: no task has this id, or it was removed with nothing running.

        """
        job: Job = await self._call(self._jobs.wait_for_task(task_id, timeout))
        return job

    await_job = wait_for_job
    await_task = wait_for_task

    async def stats(self) -> QuivStats:
        """Return a snapshot of this instance and of the namespace."""
        found: QuivStats = await self._call(self._jobs.stats())
        return found

    async def submit(
        self, items: Sequence[tuple[TaskOptions, str | None]]
    ) -> list[tuple[str, str]]:
        """Enqueue runs of decorated handlers; return their run and job ids."""
        found: list[tuple[str, str]] = await self._call(self._jobs.submit(items))
        return found

    async def wait_for_run(self, run_id: str, timeout: float | None = None) -> JobRow:
        """Return the last job of a run, retries included, when the run has ended."""
        return await self._io(self._jobs.wait_for_run(run_id, timeout))

    # Listeners ------------------------------------------------------------------------------------

    async def add_listener(
        self, event: Event, callback: Callable[..., Any], *, task_name: str | None = None
    ) -> None:
        """Call ``callback`` for each event of a kind stored from now on.

        Args:
            event: the kind.
            callback: a function or coroutine function; see ``Event`` for what it receives.
            task_name: only of tasks whose name matches this pattern, such as ``"billing-*"``.

        Raises:
            ConfigurationError: not an ``Event``, or not callable.

        """
        self._listeners.add(event, callback, task_name=task_name)
        try:
            await self._io(self.engine.cover(event))
        except BaseException:
            self._listeners.remove(event, callback)
            raise

    async def remove_listener(self, event: Event, callback: Callable[..., Any]) -> None:
        """Take one registration of ``callback`` away; an unknown one is ignored."""
        self._listeners.remove(event, callback)


def refuse_on_own_loop(what: str) -> None:
    """Refuse to block one of quiv-dist's own loops, on which other work waits.

    Raises:
        RuntimeError: the calling thread runs one.

    """
    loop = running_loop()
    if loop is not None and is_shared_loop(loop):
        msg = (
            f"{what} would block one of quiv-dist's own event loops: use AsyncQuiv there (await"
            " the call), or add the task so that its handler runs in a thread or isolated"
        )
        raise RuntimeError(msg)


def _cancelling() -> bool:
    """Tell whether the task that runs here was asked to cancel."""
    task = asyncio.current_task() if running_loop() is not None else None
    return task is not None and task.cancelling() > 0


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of ``AsyncQuiv`` to its end on this thread, without a loop.

    Such a coroutine waits for the I/O loop and for nothing else, and while this runs it waits
    by blocking; so it never yields, and what it does for the caller (telling listeners) is done
    on the caller's thread.
    """
    token = _BLOCKING.set(True)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        found: T = stop.value
        return found
    finally:
        _BLOCKING.reset(token)
        coroutine.close()
    msg = "a coroutine of AsyncQuiv waited for something other than the I/O loop"
    raise AssertionError(msg)
