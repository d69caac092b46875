"""Calls on tasks. Each runs on the instance's I/O loop and may be sent again."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec

from quiv_dist.core import ids
from quiv_dist.core.codec import Arguments, check_round_trip, decode_arguments
from quiv_dist.core.injection import check_handler
from quiv_dist.core.triggers import LATEST_MS, due_of, interval_trigger, next_nominal
from quiv_dist.core.wire import TaskWire, to_ms
from quiv_dist.exceptions import (
    ConfigurationError,
    HandlerNotRegisteredError,
    HandlerRegistrationError,
    TaskNotActiveError,
    TaskNotFoundError,
    TaskRunningError,
)
from quiv_dist.models import Event, Task
from quiv_dist.runtime.engine import GONE, Engine, Reply
from quiv_dist.runtime.kept import Kept, Ordinals
from quiv_dist.runtime.options import (
    CHECKS,
    TaskOptions,
    check_arguments,
    check_callback,
    check_choice,
    check_first,
    check_number,
    check_run_at,
    check_text,
    first_tick,
    seconds_to_ms,
    shown,
)
from quiv_dist.store.namespace import Store
from quiv_dist.store.partition import Partition
from quiv_dist.store.records import NextTick, TaskReply, TaskRow

IF_EXISTS = ("replace", "keep", "error")


@cache
def actor() -> str:
    """Return who makes calls from here, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


class TaskCalls:
    """Add, change, read and remove tasks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ordinals = Ordinals()
        self._kept: dict[str, Kept] = {}
        engine.on_registered = self.put_again
        engine.on_task_gone = self._forget

    def inherit(self, parent: TaskCalls) -> None:
        """Go on, after a fork, from what the parent process had added through this instance."""
        self._ordinals = parent._ordinals
        self._kept = {
            task_id: kept for task_id, kept in parent._kept.items() if not kept.options.pinned_to
        }
        self._engine.progress_callbacks |= parent._engine.progress_callbacks

    async def _at(self, task_id: str) -> tuple[Store, Partition]:
        store = await self._engine.store()
        return store, store.partition(store.partition_of_task(task_id))

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
        task = await self._added(task_id, options, reply)
        if reply.word == "KEPT" and not name:
            undo()
        elif declared or not name:
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

    async def _added(self, task_id: str, options: TaskOptions, reply: TaskReply) -> Task:
        if reply.word == "KEPT":
            return await self._full(task_id, reply.task)
        return _model(reply.task, options.arguments)

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

    # Change ---------------------------------------------------------------------------------------

    async def update(self, task_id: str, changes: dict[str, Any]) -> Reply:
        """Change the fields given; return the task after it."""
        changes = dict(changes)
        callback = changes.pop("progress_callback", _UNCHANGED)
        if callback is not _UNCHANGED:
            check_callback(callback)
        if "run_at" in changes and "interval" in changes:
            msg = "run_at and interval are mutually exclusive; a new interval moves the next run"
            raise ConfigurationError(msg)
        call = ids.new_id()
        store, partition = await self._at(task_id)
        with (await self._engine.feed()).call(call) as echo:
            task = await self._update(partition, store, task_id, changes, call)
            echo.heard(Event.TASK_UPDATED)
        await self._set_progress_callback(task_id, callback)
        return Reply(task, ((Event.TASK_UPDATED, (task,)),))

    async def _update(
        self, partition: Partition, store: Store, task_id: str, changes: dict[str, Any], call: str
    ) -> Task:
        while True:
            row = await self._read(partition, task_id)
            options, tick = self._changed(row, changes, await store.now_ms())
            if not changes:
                return _model(row.wire, row.args)
            reply = await partition.update_task(
                task_id, row, options.definition(task_id), tick, call=call
            )
            if reply.word == "GONE":
                raise _not_found(task_id)
            if reply.word == "OK":
                task = _model(reply.task, options.arguments)
                if task_id in self._kept:
                    self._kept[task_id] = Kept(options, to_ms(task.next_run_at))
                return task

    def _changed(
        self, row: TaskRow, changes: dict[str, Any], now_ms: int
    ) -> tuple[TaskOptions, NextTick | None]:
        """Return a task's options with changes applied, and its next tick if that moves."""
        options, tick = TaskOptions.read(row), None
        checked = {
            _FIELDS.get(name, name): CHECKS[name](value)
            for name, value in changes.items()
            if name in CHECKS
        }
        options = replace(options, **checked)
        trigger = options.trigger
        if "fixed_interval" in changes or "interval" in changes or "jitter" in changes:
            if trigger.kind != "interval" and {"fixed_interval", "interval"} & changes.keys():
                msg = "interval, fixed_interval: this task has no interval to change"
                raise ConfigurationError(msg)
            if trigger.kind == "interval":
                seconds = changes.get("interval", (trigger.interval_ms or 0) / 1000)
                fixed = bool(changes.get("fixed_interval", trigger.fixed_interval))
                trigger = interval_trigger(seconds, fixed=fixed, jitter_s=options.jitter_s)
            else:
                jitter_ms = seconds_to_ms(options.jitter_s)
                trigger = msgspec.structs.replace(trigger, jitter_ms=jitter_ms)
            options = replace(options, trigger=trigger)
        if "args" in changes or "kwargs" in changes:
            options = replace(options, arguments=self._arguments(row, changes))
        at: int | None = None
        if "run_at" in changes:
            at = max(check_run_at(changes["run_at"]), now_ms)
        elif "interval" in changes:
            at = min(now_ms + (trigger.interval_ms or 0), LATEST_MS)
        if at is not None:
            tick = NextTick(at, at, at) if at > now_ms else NextTick(None, None, None)
        return options, tick

    def _arguments(self, row: TaskRow, changes: dict[str, Any]) -> bytes:
        handler = self._engine.handlers.get(row.wire.handler)
        if handler is None:
            raise HandlerNotRegisteredError(
                f"args, kwargs: handler {row.wire.handler} is not known in this process, so its"
                " arguments cannot be checked here"
            )
        args, kwargs = handler.decoder.decode(row.args)
        new_args, new_kwargs = changes.get("args", args), changes.get("kwargs", kwargs)
        check_arguments(new_args, new_kwargs)
        check_handler(handler.func, new_kwargs)
        if row.wire.pinned_to:
            self._engine.handlers.pin(handler.func, handler.name, new_args, new_kwargs)
            return shown(new_args, new_kwargs)
        return check_round_trip(handler.func, new_args, new_kwargs)

    async def _set_progress_callback(self, task_id: str, callback: Any) -> None:
        if callback is _UNCHANGED:
            return
        if callback is None:
            self._engine.progress_callbacks.pop(task_id, None)
            return
        self._engine.progress_callbacks[task_id] = callback
        await self._engine.cover(Event.JOB_PROGRESS, *GONE)

    async def pause(self, task_id: str, *, reason: str | None) -> Reply:
        """Pause a task."""
        if reason is not None:
            check_text("reason", reason)
        call = ids.new_id()
        _, partition = await self._at(task_id)
        with (await self._engine.feed()).call(call) as echo:
            reply = await partition.pause_task(
                task_id, reason=reason or "", actor=actor(), call=call
            )
            if reply.word == "GONE":
                raise _not_found(task_id)
            echo.heard(Event.TASK_PAUSED)
        return Reply(None, ((Event.TASK_PAUSED, (await self._full(task_id, reply.task),)),))

    async def resume(self, task_id: str, *, delay: float | None) -> Reply:
        """Resume a task."""
        delay_ms = seconds_to_ms(check_number("delay", delay or 0, least=0))
        call = ids.new_id()
        store, partition = await self._at(task_id)
        with (await self._engine.feed()).call(call) as echo:
            while True:
                row = await self._read(partition, task_id)
                tick = None
                trigger = TaskOptions.read(row).trigger
                if trigger.kind == "cron" and not delay:
                    after = max(await store.now_ms(), row.last_ms)
                    nominal = next_nominal(trigger, after, row.anchor_ms, task_id)
                    if nominal is not None:
                        tick = NextTick(nominal, due_of(trigger, task_id, nominal), None)
                reply = await partition.resume_task(
                    task_id, delay_ms=delay_ms, tick=tick, call=call,
                    revision="" if tick is None else row.revision,
                )  # fmt: skip
                if reply.word != "STALE":
                    break
            if reply.word == "GONE":
                raise _not_found(task_id)
            if reply.word == "RUNNING":
                msg = f"task {task_id!r} has a live run; resume it when that has ended"
                raise TaskRunningError(msg)
            echo.heard(Event.TASK_RESUMED)
        task = await self._full(task_id, reply.task)
        return Reply(None, ((Event.TASK_RESUMED, (task,)),))

    async def remove(self, task_id: str) -> Reply:
        """Remove a task."""
        call = ids.new_id()
        _, partition = await self._at(task_id)
        row = await self._read(partition, task_id)
        with (await self._engine.feed()).call(call) as echo:
            reply = await partition.remove_task(task_id, call=call)
            if reply.word == "GONE":
                raise _not_found(task_id)
            echo.heard(Event.TASK_REMOVED)
        self._forget(task_id)
        task = _model(reply.task, row.args)
        if task.status != "running":
            self._engine.waits.removed(task_id)
        return Reply(None, ((Event.TASK_REMOVED, (task,)),))

    def _forget(self, task_id: str) -> None:
        self._engine.progress_callbacks.pop(task_id, None)
        if self._kept.pop(task_id, None) is not None:
            self._engine.handlers.remove(f"pinned:{task_id}")

    async def run_now(self, task_id: str) -> Reply:
        """Run a task now."""
        store, partition = await self._at(task_id)
        run = ids.run_id(
            partition.keys.partition, store.namespace, "now", task_id, "", ids.new_id()
        )
        word = await partition.run_now(
            task_id, run_id=run, job_id=ids.job_id(run, 1), call=ids.new_id()
        )
        if word == "GONE":
            raise _not_found(task_id)
        if word == "PAUSED":
            msg = f"task {task_id!r} is paused; resume_task() first"
            raise TaskNotActiveError(msg)
        if word == "RUNNING":
            msg = f"task {task_id!r} has a live run; a second beside it is refused"
            raise TaskRunningError(msg)
        return Reply(1)

    # Read -----------------------------------------------------------------------------------------

    async def get(self, task_id: str) -> Reply:
        """Return a task."""
        _, partition = await self._at(task_id)
        row = await self._read(partition, task_id)
        return Reply(_model(row.wire, row.args))

    async def find(
        self,
        *,
        include_run_once: bool,
        status: str | None,
        limit: int | None,
        offset: int,
        task_name: str | None,
    ) -> Reply:
        """Return tasks by next run."""
        store = await self._engine.store()
        found: list[Task] = []
        for number in range(store.partitions):
            task_ids = await store.reads(number).task_ids()
            for row in await store.partition(number).read_tasks(task_ids):
                if row is None or (row.wire.run_once and not include_run_once):
                    continue
                if status and row.wire.status != status:
                    continue
                if task_name is not None and row.wire.task_name != task_name:
                    continue
                found.append(_model(row.wire, row.args))
        found.sort(key=lambda task: task.next_run_at)
        return Reply(found[offset:] if limit is None else found[offset : offset + limit])

    async def _read(self, partition: Partition, task_id: str) -> TaskRow:
        row = (await partition.read_tasks([task_id]))[0]
        if row is None:
            raise _not_found(task_id)
        return row

    async def _full(self, task_id: str, wire: TaskWire | None) -> Task:
        """Return a task with its arguments as they are, where an event may leave them out."""
        _, partition = await self._at(task_id)
        row = (await partition.read_tasks([task_id]))[0]
        return _model(wire, row.args if row is not None else None)


_UNCHANGED = object()
_FIELDS = {
    "timeout": "timeout_s",
    "retry_backoff": "retry_backoff_s",
    "retry_backoff_max": "retry_backoff_max_s",
    "jitter": "jitter_s",
}


def _is_moved_alarm(options: TaskOptions, read: TaskRow, tick: NextTick) -> bool:
    """Tell whether an upsert of a run-once task names another time, still to come."""
    at = tick.nominal_ms
    return (
        options.trigger.kind == "once"
        and at is not None
        and read.last_ms < at != read.wire.next_run_at_ms
    )


def _model(wire: TaskWire | None, args: bytes | None) -> Task:
    if wire is None:
        raise TaskNotFoundError("the task went away")
    return wire.to_model(None if args is None else decode_arguments(args))


def _not_found(task_id: str) -> TaskNotFoundError:
    return TaskNotFoundError(f"task {task_id!r} was not found")
