"""Adding and removing tasks. Each call runs on the instance's I/O loop and may be sent again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from quiv_dist.core import ids
from quiv_dist.core.codec import Arguments
from quiv_dist.core.wire import to_ms
from quiv_dist.exceptions import ConfigurationError, HandlerRegistrationError
from quiv_dist.models import Event, Task
from quiv_dist.runtime.changes import TaskChanges
from quiv_dist.runtime.checks import (
    check_choice,
    check_first,
    check_text,
)
from quiv_dist.runtime.engine import GONE, Engine, Reply
from quiv_dist.runtime.kept import Kept, Ordinals
from quiv_dist.runtime.options import TaskOptions, first_tick
from quiv_dist.runtime.task_reads import not_found, task_model
from quiv_dist.store.records import NOW, NextTick, TaskReply, TaskRow

IF_EXISTS = ("replace", "keep", "error")


class TaskCalls(TaskChanges):
    """Add, change, read and remove tasks."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._ordinals = Ordinals()
        self._kept: dict[str, Kept] = {}
        self._warned: set[tuple[str, str]] = set()
        engine.on_registered = self.put_again
        engine.on_task_gone = self._forget

    def inherit(self, parent: TaskCalls) -> None:
        """Go on, after a fork, from what the parent process had added through this instance."""
        self._ordinals = parent._ordinals
        self._kept = {
            task_id: kept for task_id, kept in parent._kept.items() if not kept.options.pinned_to
        }
        self._engine.progress_callbacks |= parent._engine.progress_callbacks

    # Add ------------------------------------------------------------------------------------------

    async def add(
        self,
        func: Callable[..., Any],
        options: TaskOptions,
        arguments: Arguments = ((), {}),
        *,
        delay: float | None,
        run_at: Any,
        task_id: str | None,
        if_exists: str,
        progress_callback: Callable[..., Any] | None,
        declared: bool = False,
    ) -> Reply:
        """Store a task; return its id. ``declared``: part of the application's own schedule."""
        engine = self._engine
        check_choice("if_exists", if_exists, IF_EXISTS)
        check_first(delay, run_at)
        if task_id is not None:
            check_text("task_id", task_id)
        name = options.handler
        if not name:
            self._check_pinnable(func)
        # Added before the start: what the application declares, whether it gives the id or not.
        declared = declared or bool(name and not options.run_once and not engine.started)
        task_id, undo = self._identify(options, task_id, declared=declared)
        try:
            if not name:
                options = await self._pin(func, options, task_id, arguments)
            else:
                engine.handlers.add(func, name)
                await engine.serve(name)
            if progress_callback is not None:
                engine.progress_callbacks[task_id] = progress_callback
                await engine.cover(Event.JOB_PROGRESS, *GONE)
            reply, event = await self._put(task_id, options, delay, run_at, if_exists)
        except BaseException:
            undo()
            raise
        await self._warn_if_unserved(options)
        task = await self._added(task_id, options, reply)
        if reply.word == "KEPT" and not name:
            undo()
        elif reply.word != "ENDED" and (declared or not name):
            self._kept[task_id] = Kept(options, to_ms(task.next_run_at))
        engine.logger.info(
            "Task '%s' %s (next run at %s)", task.task_name, reply.word.lower(), task.next_run_at
        )
        return Reply(task_id, ((event, (task,)),))

    async def _put(
        self, task_id: str, options: TaskOptions, delay: Any, run_at: Any, if_exists: str
    ) -> tuple[TaskReply, Event]:
        store, partition = await self._at(task_id)
        call = ids.new_id()
        definition = options.definition(task_id)
        with (await self._engine.feed()).call(call) as echo:
            while True:
                read = (await partition.read_tasks([task_id]))[0]
                now_ms = await store.now_ms()
                tick = first_tick(options.trigger, task_id, now_ms, delay=delay, run_at=run_at)
                if read is None and run_at is not None and tick == NOW and options.run_once:
                    # An alarm that has rung: its time is past, and its last job still is kept.
                    last = await store.reads(partition.keys.partition).last_job_of_ended(task_id)
                    if last is not None:
                        wire = options.ended(task_id, to_ms(run_at))
                        return TaskReply("ENDED", wire, now_ms), Event.TASK_ADDED
                if (
                    read is not None
                    and if_exists == "replace"
                    and run_at is not None
                    and _is_moved_alarm(options, read, tick)
                ):
                    # The time of a run-once task is its trigger, and not in its definition.
                    moved = await partition.update_task(task_id, read, definition, tick, call=call)
                    reply = moved._replace(word="REPLACED" if moved.word == "OK" else "STALE")
                else:
                    reply = await partition.put_task(
                        task_id, definition, tick, if_exists=if_exists, read=read,
                        incarnation=ids.new_id(), call=call,
                    )  # fmt: skip
                if reply.word != "STALE":
                    break
            if reply.word == "EXISTS":
                msg = f"task_id={task_id!r} is taken, and if_exists='error' was given"
                raise ConfigurationError(msg)
            event = Event.TASK_UPDATED if reply.word == "REPLACED" else Event.TASK_ADDED
            echo.heard(event)
        return reply, event

    async def _warn_if_unserved(self, options: TaskOptions) -> None:
        """Warn once of a handler that no live process serves: its jobs would wait."""
        place = (options.queue, options.handler)
        if "worker" in self._engine.options.roles or place in self._warned:
            return
        # Before it is known: calls made side by side must not each warn.
        self._warned.add(place)
        if not await (await self._engine.store()).reads().is_served(*place):
            self._engine.logger.warning(
                "no live worker of queue %s serves handler %s: its jobs wait for one", *place
            )

    async def _added(self, task_id: str, options: TaskOptions, reply: TaskReply) -> Task:
        if reply.word == "KEPT":
            return await self._full(task_id, reply.task)
        return task_model(reply.task, options.arguments)

    def _identify(
        self, options: TaskOptions, task_id: str | None, *, declared: bool
    ) -> tuple[str, Callable[[], None]]:
        """Return a task's id, and what undoes the changes that a call makes in this process."""
        engine = self._engine
        derived: tuple[str, str, int] | None = None
        if task_id is None and declared:
            pair = (options.task_name, options.handler)
            derived = (*pair, self._ordinals.take(*pair))
            task_id = ids.declared_task_id(engine.options.namespace, *derived)
        found = task_id or ids.new_id()
        name = f"pinned:{found}"
        handler = engine.handlers.get(name)
        callback = engine.progress_callbacks.get(found)

        def undo() -> None:
            if derived is not None:
                # Made again, the call must mean the same task.
                self._ordinals.give_back(*derived)
            engine.handlers.restore(name, handler)
            if callback is None:
                engine.progress_callbacks.pop(found, None)
            else:
                engine.progress_callbacks[found] = callback

        return found, undo

    def _check_pinnable(self, func: Callable[..., Any]) -> None:
        if "worker" not in self._engine.options.roles:
            msg = (
                f"{func!r} has no importable name and would be pinned to this process, which has no"
                " worker role: use a function at the top level of a module, or roles with 'worker'"
            )
            raise HandlerRegistrationError(msg)

    async def _pin(
        self, func: Callable[..., Any], options: TaskOptions, task_id: str, arguments: Arguments
    ) -> TaskOptions:
        engine = self._engine
        name = f"pinned:{task_id}"
        engine.handlers.pin(func, name, *arguments)
        node = await engine.link()
        await engine.cover(*GONE)
        engine.logger.info(
            "Task '%s' is pinned: its handler has no importable name, so it runs only in this"
            " process, and goes with it", options.task_name,
        )  # fmt: skip
        return replace(options, handler=name, queue=f"@{node.id}", pinned_to=node.id)

    async def put_again(self) -> None:
        """Store what the server lost: flushed, or restarted without its data.

        That is what this process pinned, and the application's own schedule. The grid of an
        interval stays where it was; what was due meanwhile is not made up.
        """
        for task_id, kept in list(self._kept.items()):
            store, partition = await self._at(task_id)
            if (await partition.read_tasks([task_id]))[0] is not None:
                continue
            reply = await partition.put_task(
                task_id, kept.options.definition(task_id),
                kept.tick(task_id, await store.now_ms()), if_exists="keep", read=None,
                incarnation=ids.new_id(), call="",
            )  # fmt: skip
            if reply.word == "CREATED":
                self._engine.logger.warning(
                    "Task '%s' was lost by the server and is stored again",
                    kept.options.task_name,
                )

    async def remove(self, task_id: str) -> Reply:
        """Remove a task."""
        call = ids.new_id()
        _, partition = await self._at(task_id)
        row = await self._read(partition, task_id)
        with (await self._engine.feed()).call(call) as echo:
            reply = await partition.remove_task(task_id, call=call)
            if reply.word == "GONE":
                raise not_found(task_id)
            echo.heard(Event.TASK_REMOVED)
        self._forget(task_id)
        task = task_model(reply.task, row.args)
        if task.status != "running":
            self._engine.waits.removed(task_id)
        return Reply(None, ((Event.TASK_REMOVED, (task,)),))

    def _forget(self, task_id: str) -> None:
        self._engine.progress_callbacks.pop(task_id, None)
        if self._kept.pop(task_id, None) is not None:
            self._engine.handlers.remove(f"pinned:{task_id}")

    def _has_changed(self, task: Task, options: TaskOptions) -> None:
        if task.id in self._kept:
            self._kept[task.id] = Kept(options, to_ms(task.next_run_at))


def _is_moved_alarm(options: TaskOptions, read: TaskRow, tick: NextTick) -> bool:
    """Tell whether an upsert of a run-once task names another time, still to come."""
    at = tick.nominal_ms
    return (
        options.trigger.kind == "once"
        and at is not None
        and read.last_ms < at != read.wire.next_run_at_ms
    )
