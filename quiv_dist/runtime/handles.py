"""Decorated handlers, declared tasks, and the handles of submitted runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from quiv_dist.core.annotations import globals_of, resolve
from quiv_dist.core.codec import check_round_trip, decode_result
from quiv_dist.core.injection import check_handler
from quiv_dist.core.triggers import once_trigger
from quiv_dist.exceptions import JobFailedError
from quiv_dist.models import JobStatus
from quiv_dist.runtime.options import TaskOptions
from quiv_dist.store.records import JobRow

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
C = TypeVar("C")


class Submitter(Protocol):
    """What a handle needs of its instance."""

    def call_blocking(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the instance to its end on this thread."""

    async def submit(
        self, items: Sequence[tuple[TaskOptions, str | None]]
    ) -> list[tuple[str, str]]:
        """Enqueue runs; return their run and job ids."""

    async def wait_for_run(self, run_id: str, timeout: float | None) -> JobRow:
        """Return the last job of a run when that has ended."""


@dataclass(frozen=True)
class DeclaredTask:
    """A task declared with ``@quiv.task``: its id, its handler and what ``add_task`` is given."""

    task_id: str
    func: Callable[..., Any]
    options: TaskOptions
    delay: float | None


@dataclass(frozen=True)
class HandlerOptions:
    """What every submission of a handler is sent with."""

    name: str
    queue: str
    priority: str
    timeout_s: float | None
    max_retries: int
    retry_backoff_s: float
    max_crashes: int


class RunHandle(Generic[R]):
    """A submitted run. ``result()`` from threads and ``await`` follow its retries to the end."""

    def __init__(self, quiv: Submitter, run_id: str, job_id: str, func: Callable[..., Any]) -> None:
        self.run_id = run_id
        self.job_id = job_id
        self._quiv = quiv
        self._func = func

    def __repr__(self) -> str:
        return f"RunHandle(run_id={self.run_id!r})"

    def result(self, timeout: float | None = None) -> R:
        """Return the run's value; blocks for at most ``timeout`` seconds.

        Raises:
            TimeoutError: the run had not ended in time.
            JobFailedError: it ended failed or cancelled; the message says why.

        """
        row: JobRow = self._quiv.call_blocking(self._quiv.wait_for_run(self.run_id, timeout))
        return self._value(row)

    def __await__(self) -> Generator[Any, None, R]:
        return self._wait().__await__()

    async def _wait(self) -> R:
        return self._value(await self._quiv.wait_for_run(self.run_id, None))

    def _value(self, row: JobRow) -> R:
        job = row.wire
        if job.status == JobStatus.COMPLETED:
            return self._decoded(row.result)
        msg = f"run {self.run_id} of {job.task_name} ended {job.status}: {job.error_message or ''}"
        raise JobFailedError(msg)

    def _decoded(self, result: bytes) -> R:
        func = self._func
        annotation = getattr(func, "__annotations__", {}).get("return")
        # Late, because an annotation may name what its module defines later.
        resolved = resolve(annotation, globals_of(func))
        value: Any = decode_result(result, resolved) if result else None
        found: R = value
        return found


class HandlerDecorator(Protocol):
    """What ``@quiv.handler()`` is: a run's value is what a coroutine function's coroutine gives."""

    @overload
    def __call__(
        self, func: Callable[P, Coroutine[Any, Any, R]], /
    ) -> HandlerHandle[P, R, Coroutine[Any, Any, R]]: ...

    @overload
    def __call__(self, func: Callable[P, R], /) -> HandlerHandle[P, R, R]: ...


class HandlerHandle(Generic[P, R, C]):
    """A decorated handler: calling it runs it here, ``submit`` runs it once in the fleet.

    ``R`` is the value of a run, ``C`` what calling returns: the same for a function, a
    coroutine of it for a coroutine function.
    """

    def __init__(self, quiv: Submitter, func: Callable[P, C], options: HandlerOptions) -> None:
        update_wrapper(self, func)
        self._quiv = quiv
        self._func = func
        self._options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Call the function here."""
        return self._func(*args, **kwargs)

    @property
    def name(self) -> str:
        """The name its jobs carry."""
        return self._options.name

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Run it once in the fleet; blocks until that is stored."""
        return self._quiv.call_blocking(self.submit_async(*args, **kwargs))

    async def submit_async(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Run it once in the fleet."""
        return (await self._submit([(args, kwargs)], None))[0]

    def submit_with(
        self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, *, key: str
    ) -> RunHandle[R]:
        """Run it once in the fleet for this ``key``: while such a run is kept, it is that one."""
        return self._quiv.call_blocking(self._submit([(args, kwargs or {})], key))[0]

    def submit_many(self, calls: list[tuple[Any, ...]]) -> list[RunHandle[R]]:
        """Run it once for each tuple of positional arguments, stored 200 a round trip."""
        return self._quiv.call_blocking(self.submit_many_async(calls))

    async def submit_many_async(self, calls: list[tuple[Any, ...]]) -> list[RunHandle[R]]:
        """Run it once for each tuple of positional arguments, stored 200 a round trip."""
        return await self._submit([(args, {}) for args in calls], None)

    async def _submit(
        self, calls: list[tuple[tuple[Any, ...], dict[str, Any]]], key: str | None
    ) -> list[RunHandle[R]]:
        items = [(self._task_options(args, kwargs), key) for args, kwargs in calls]
        found = await self._quiv.submit(items)
        return [RunHandle(self._quiv, run, job, self._func) for run, job in found]

    def _task_options(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskOptions:
        options = self._options
        if kwargs:
            check_handler(self._func, kwargs)
        return TaskOptions(
            task_name=options.name,
            handler=options.name,
            arguments=check_round_trip(self._func, args, kwargs),
            trigger=once_trigger(),
            run_once=True,
            timeout_s=options.timeout_s,
            max_retries=options.max_retries,
            retry_backoff_s=options.retry_backoff_s,
            queue=options.queue,
            priority=options.priority,
            max_crashes=options.max_crashes,
            executor="auto",
            store_result=True,
        )
