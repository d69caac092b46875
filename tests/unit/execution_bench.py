"""Executors on a test's loop, with every report they made."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from typing import TYPE_CHECKING, Any

from quiv_dist.context import job_context
from quiv_dist.core.codec import encode_arguments
from quiv_dist.core.spec import Executor, JobSpec
from quiv_dist.core.stop import StopEvent
from quiv_dist.worker.execution import Ended, Execution
from quiv_dist.worker.executors import Executors
from quiv_dist.worker.registry import HandlerRegistry
from tests.unit.loops import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable

LOGGER = logging.getLogger("test.executors")


class Bench:
    """Executors on the test's loop, with every report they made."""

    def __init__(self, threads: int = 4) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended: list[tuple[Execution, Ended]] = []
        self.ended_on: set[threading.Thread] = set()
        self._waiting: dict[Execution, asyncio.Future[Ended]] = {}
        self.isolated_loops: list[asyncio.AbstractEventLoop] = []
        self.executors = Executors(
            loop=self.loop,
            threads=threads,
            logger=LOGGER,
            on_ended=self._on_ended,
            job_context=functools.partial(job_context, None),
            new_loop=self._new_loop,
        )

    def _on_ended(self, execution: Execution, ended: Ended) -> None:
        self.ended.append((execution, ended))
        self.ended_on.add(threading.current_thread())
        self._waiting[execution].set_result(ended)

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        self.isolated_loops.append(asyncio.new_event_loop())
        return self.isolated_loops[-1]

    def start(
        self,
        func: Callable[..., Any],
        *args: Any,
        executor: Executor = "auto",
        timeout_ms: int | None = None,
        progress: Callable[..., None] = print,
        args_bytes: bytes | None = None,
        job_id: str = "job",
    ) -> Execution:
        execution = Execution(
            job_id=job_id,
            task_name="task",
            handler=HandlerRegistry().add(func, "handler"),
            args_bytes=encode_arguments(args, {}) if args_bytes is None else args_bytes,
            spec=JobSpec(executor=executor, timeout_ms=timeout_ms, store_result=True),
            stop=StopEvent(),
            progress=progress,
        )
        self._waiting[execution] = self.loop.create_future()
        self.executors.start(execution)
        return execution

    async def end_of(self, execution: Execution) -> Ended:
        return await asyncio.wait_for(self._waiting[execution], DEADLINE_S)

    async def run(self, func: Callable[..., Any], *args: Any, **options: Any) -> Ended:
        return await self.end_of(self.start(func, *args, **options))


async def reached(event: threading.Event) -> None:
    """Wait for what a handler tells, wherever it runs."""
    assert await asyncio.to_thread(event.wait, DEADLINE_S)


async def asked_to_stop(stop_event: StopEvent) -> None:
    """Wait, in a handler on a loop, until it is asked to stop; does not count as a look."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    stop_event.add_callback(functools.partial(loop.call_soon_threadsafe, asked.set))
    await asyncio.wait_for(asked.wait(), DEADLINE_S)


def where() -> tuple[str, bool]:
    """Return the thread's name, and whether an event loop runs on it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return threading.current_thread().name, False
    return threading.current_thread().name, True


async def where_async() -> tuple[str, bool]:
    return where()
