"""``@quiv.task`` and ``@quiv.handler``: what a module declares when it is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from quiv_dist.core.naming import declared_name
from quiv_dist.exceptions import HandlerRegistrationError
from quiv_dist.runtime.checks import (
    CHECKS,
    check_text,
)
from quiv_dist.runtime.handles import (
    DeclaredTask,
    HandlerDecorator,
    HandlerHandle,
    HandlerOptions,
    Submitter,
)
from quiv_dist.runtime.options import task_options
from quiv_dist.worker.registry import HandlerRegistry

P = ParamSpec("P")
R = TypeVar("R")


class Declarations(Submitter):
    """The declaring half of an instance: no I/O, nothing started."""

    def __init__(self, handlers: HandlerRegistry) -> None:
        self._handlers = handlers
        self._declared: dict[str, DeclaredTask] = {}

    @property
    def handlers(self) -> HandlerRegistry:
        """The handlers that a worker of this instance serves."""
        return self._handlers

    def declared_tasks(self) -> list[DeclaredTask]:
        """Return the tasks declared with ``@task``."""
        return list(self._declared.values())

    def task(
        self,
        *,
        interval: float | None = None,
        cron: str | None = None,
        cron_timezone: str = "UTC",
        delay: float | None = None,
        fixed_interval: bool = True,
        task_id: str | None = None,
        task_name: str | None = None,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        timeout: float | None = None,
        max_retries: int = 0,
        retry_backoff: float = 30.0,
        retry_backoff_max: float = 3600.0,
        jitter: float = 0.0,
        queue: str = "default",
        priority: str = "normal",
        max_crashes: int = 3,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Declare a schedule of the decorated function, stored when an instance starts.

        The parameters are those of ``add_task``. ``task_id`` and ``task_name`` are
        ``module:qualname`` and the function's name unless given. Coroutine functions run on
        the worker's own loop.

        Raises:
            ConfigurationError: a parameter is not accepted.
            HandlerRegistrationError: the function has no importable name.

        """

        def declare(func: Callable[P, R]) -> Callable[P, R]:
            name = self._named(func)
            options = task_options(
                task_name or name.rpartition(":")[2], func, interval=interval, cron=cron,
                cron_timezone=cron_timezone, run_once=False, fixed_interval=fixed_interval,
                args=args, kwargs=kwargs, timeout=timeout, max_retries=max_retries,
                retry_backoff=retry_backoff, retry_backoff_max=retry_backoff_max, jitter=jitter,
                queue=queue, priority=priority, max_crashes=max_crashes, async_executor="async",
                handler=name,
            )  # fmt: skip
            self._handlers.add(func, name, "async" if options.executor == "async" else "auto")
            found = check_text("task_id", task_id) if task_id is not None else name
            self._declared[found] = DeclaredTask(found, func, options, delay)
            return func

        return declare

    def handler(
        self,
        *,
        queue: str = "default",
        priority: str = "normal",
        timeout: float | None = None,
        max_retries: int = 0,
        retry_backoff: float = 30.0,
        max_crashes: int = 3,
    ) -> HandlerDecorator:
        """Make the decorated function a handler that can be submitted.

        Raises:
            ConfigurationError: a parameter is not accepted.
            HandlerRegistrationError: the function has no importable name.

        """
        options = {
            "queue": queue, "priority": priority, "timeout": timeout, "max_retries": max_retries,
            "retry_backoff": retry_backoff, "max_crashes": max_crashes,
        }  # fmt: skip
        checked = {name: CHECKS[name](value) for name, value in options.items()}

        def declare(func: Callable[..., Any]) -> HandlerHandle[..., Any, Any]:
            name = self._named(func)
            handler = self._handlers.add(func, name)
            if handler.is_async:
                handler = self._handlers.add(func, name, "async")
            return HandlerHandle(
                self,
                func,
                HandlerOptions(
                    name=name,
                    queue=checked["queue"],
                    priority=checked["priority"],
                    timeout_s=checked["timeout"],
                    max_retries=checked["max_retries"],
                    retry_backoff_s=checked["retry_backoff"],
                    max_crashes=checked["max_crashes"],
                ),
            )

        # One function behind both of its overloads.
        return cast("HandlerDecorator", declare)

    def _named(self, func: Any) -> str:
        if not callable(func):
            msg = f"{func!r} is not callable"
            raise HandlerRegistrationError(msg)
        name = declared_name(func)
        if name is None:
            msg = f"{func!r} has no importable name: declare functions at the top level of a module"
            raise HandlerRegistrationError(msg)
        return name
