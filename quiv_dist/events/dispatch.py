"""Calling listeners and progress callbacks where the application expects them.

=========== ======== ==========================================================
main loop   callback what happens
=========== ======== ==========================================================
available   async    ``run_coroutine_threadsafe`` on the main loop
available   sync     ``call_soon_threadsafe`` on the main loop
unavailable sync     called directly on the calling thread
unavailable async    run in a temporary event loop on the calling thread
=========== ======== ==========================================================

A sync callback that returns a coroutine has it awaited where it was called.

The last row has one case in which it cannot be followed: the calling thread already runs an
event loop which is not the main loop, as when a handler on a worker's own loop adds a task. A
second loop cannot run there, and waiting for one elsewhere would block the loop that the
callback may need. Such a callback goes to the listener thread: in order, not waited for.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quiv_dist.core.callables import callable_name, is_async_callable
from quiv_dist.events.mainloop import MainLoop, MainLoopWork, mark_own_loop, running_loop
from quiv_dist.models import Event, Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from quiv_dist.events.listener_thread import ListenerThread
    from quiv_dist.events.registry import ListenerRegistry


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of one callback, and where its failure is told."""

    callback: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    label: str
    logger: logging.Logger

    def make(self) -> Any:
        return self.callback(*self.args, **self.kwargs)

    async def make_async(self) -> None:
        try:
            await self.make()
        except Exception as exc:  # noqa: BLE001 - application code
            self.failed(exc)

    async def finish(self, result: Awaitable[Any]) -> None:
        try:
            await result
        except Exception as exc:  # noqa: BLE001 - application code
            self.failed(exc)

    def failed(self, exc: BaseException) -> None:
        self.logger.error(
            "%s failed in %s: %r", self.label, callable_name(self.callback), exc, exc_info=exc
        )


class Dispatcher:
    """Calls every listener of an event; nothing a callback does reaches the one who dispatches.

    Only ``KeyboardInterrupt`` and ``SystemExit`` of a callback called directly pass through:
    they are addressed to the thread, which is the application's.
    """

    def __init__(
        self,
        registry: ListenerRegistry,
        main_loop: MainLoop,
        listener_thread: ListenerThread,
        logger: logging.Logger | None = None,
    ) -> None:
        self._registry = registry
        self._main_loop = main_loop
        self._listener_thread = listener_thread
        self._logger = logger or logging.getLogger("Quiv")
        self._in_flight = MainLoopWork()

    def dispatch(self, event: Event, *payload: Any) -> None:
        """Call the listeners of ``event`` with the event and ``payload``, in registration order."""
        task = payload[0] if payload else None
        task_name = task.task_name if isinstance(task, Task) else None
        listeners = self._registry.listeners(event, task_name)
        if not listeners:
            return
        loop = self._main_loop.resolve()
        label = f"Event listener for '{event.value}'"
        for listener in listeners:
            self._route(_Call(listener, (event, *payload), {}, label, self._logger), loop)

    def call(
        self,
        callback: Callable[..., Any],
        label: str,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Call one callback by the same table; ``label`` begins the log line of its failure."""
        call = _Call(callback, args, kwargs, label, self._logger)
        self._route(call, self._main_loop.resolve())

    def _route(self, call: _Call, loop: asyncio.AbstractEventLoop | None) -> None:
        is_async = is_async_callable(call.callback)
        if loop is not None and is_async:
            self._post_async(call, loop)
        elif loop is not None:
            self._post_sync(call, loop)
        elif is_async:
            self._run_in_temporary_loop(call, call.make_async)
        else:
            self._call_directly(call)

    def _post_async(self, call: _Call, loop: asyncio.AbstractEventLoop) -> None:
        hand_over = self._in_flight.begin()
        coroutine = call.make_async()
        try:
            hand_over.follow(asyncio.run_coroutine_threadsafe(coroutine, loop))
        except Exception as exc:  # noqa: BLE001 - closed since it was resolved
            coroutine.close()
            hand_over.end()
            call.failed(exc)

    def _post_sync(self, call: _Call, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(self._call_on_loop, call, loop)
        except Exception as exc:  # noqa: BLE001 - closed since it was resolved
            call.failed(exc)

    def _call_on_loop(self, call: _Call, loop: asyncio.AbstractEventLoop) -> None:
        try:
            result = call.make()
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - application code
            call.failed(exc)
            return
        if inspect.isawaitable(result):
            self._in_flight.begin().follow(loop.create_task(call.finish(result)))

    def _call_directly(self, call: _Call) -> None:
        try:
            result = call.make()
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - application code
            call.failed(exc)
            return
        # A future, as from create_task(), belongs to the loop that made it and runs there.
        if not inspect.isawaitable(result) or asyncio.isfuture(result):
            return
        accepted = self._run_in_temporary_loop(call, lambda: call.finish(result))
        if not accepted and inspect.iscoroutine(result):
            # Nobody will await it now, and an unawaited coroutine warns when it is collected.
            result.close()

    def _run_in_temporary_loop(
        self, call: _Call, start: Callable[[], Coroutine[Any, Any, None]]
    ) -> bool:
        """Run what ``start`` gives to its end; return False if the listener thread refused it."""

        def run() -> None:
            try:
                _run_to_end(start())
            except asyncio.CancelledError as exc:
                call.failed(exc)

        if running_loop() is None:
            run()
            return True
        self._listener_thread.start()
        return self._listener_thread.post(run)


def _run_to_end(coroutine: Coroutine[Any, Any, None]) -> None:
    # With a factory, Runner leaves the thread's current loop, which may be the application's,
    # as it is; it also ends what the callback started and left behind.
    with asyncio.Runner(loop_factory=_new_temporary_loop) as runner:
        runner.run(coroutine)


def _new_temporary_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    mark_own_loop(loop, shared=False)
    return loop
