"""``Quiv``: the synchronous face, generated from ``AsyncQuiv`` one line a method.

Calls are made on the instance's I/O thread while the caller waits, so they need no event loop
and may be made inside one, as in FastAPI's lifespan.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable
from datetime import tzinfo
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from quiv_dist.client import AsyncQuiv, refuse_on_own_loop, run_blocking
from quiv_dist.config import DEFAULT_HISTORY_RETENTION_S, DEFAULT_POOL_SIZE, QuivConfig

P = ParamSpec("P")
T = TypeVar("T")


class _Inner(AsyncQuiv):
    # quiv promises a loop of its own to each run of an async handler.
    _async_executor: Literal["async", "isolated"] = "isolated"


def _blocking(
    method: Callable[Concatenate[AsyncQuiv, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Quiv, P], T]:
    """Return a method of ``Quiv`` that makes a call of ``AsyncQuiv`` and waits for it."""

    @wraps(method)
    def call(self: Quiv, /, *args: P.args, **kwargs: P.kwargs) -> T:
        refuse_on_own_loop(f"Quiv.{method.__name__}()")
        return run_blocking(method(self.asynchronous, *args, **kwargs))

    # `wraps` leads inspection to what it wraps, which is a coroutine function; this is none.
    signature = inspect.signature(method)
    vars(call).pop("__wrapped__")
    vars(call)["__signature__"] = signature
    return call


class Quiv:
    """A scheduler instance for code with or without an event loop.

    A program written for quiv runs unchanged: set ``QUIV_REDIS_URL``, change the import, and
    its schedule survives restarts and is shared by all processes that run it.
    """

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
        #: The same instance for code that runs on an event loop.
        self.asynchronous: AsyncQuiv = _Inner(
            config, pool_size, history_retention_seconds, timezone, logger=logger,
            main_loop=main_loop, redis_url=redis_url, namespace=namespace, roles=roles,
            handlers=handlers, app_version=app_version,
        )  # fmt: skip
        self.task = self.asynchronous.task
        self.handler = self.asynchronous.handler
        self.configure = self.asynchronous.configure
        self.pending_main_loop_work = self.asynchronous.pending_main_loop_work
        self.await_job = self.asynchronous.await_job
        self.await_task = self.asynchronous.await_task

    @property
    def is_running(self) -> bool:
        """Whether ``start()`` was called and ``shutdown()`` was not. Reads no Redis."""
        return self.asynchronous.is_running

    @property
    def is_ready(self) -> bool:
        """Whether this instance also is connected and registered now. Reads no Redis."""
        return self.asynchronous.is_ready

    start = _blocking(AsyncQuiv.start)
    startup = _blocking(AsyncQuiv.startup)
    shutdown = _blocking(AsyncQuiv.shutdown)
    stop = _blocking(AsyncQuiv.stop)
    add_task = _blocking(AsyncQuiv.add_task)
    update_task = _blocking(AsyncQuiv.update_task)
    remove_task = _blocking(AsyncQuiv.remove_task)
    pause_task = _blocking(AsyncQuiv.pause_task)
    resume_task = _blocking(AsyncQuiv.resume_task)
    run_task_immediately = _blocking(AsyncQuiv.run_task_immediately)
    get_task = _blocking(AsyncQuiv.get_task)
    get_all_tasks = _blocking(AsyncQuiv.get_all_tasks)
    get_job = _blocking(AsyncQuiv.get_job)
    get_all_jobs = _blocking(AsyncQuiv.get_all_jobs)
    cancel_job = _blocking(AsyncQuiv.cancel_job)
    wait_for_job = _blocking(AsyncQuiv.wait_for_job)
    wait_for_task = _blocking(AsyncQuiv.wait_for_task)
    stats = _blocking(AsyncQuiv.stats)
    add_listener = _blocking(AsyncQuiv.add_listener)
    remove_listener = _blocking(AsyncQuiv.remove_listener)
