"""Changing tasks: update, pause, resume, run now. Each call may be sent again."""

from __future__ import annotations

import getpass
import socket
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec

from quiv_dist.core import ids
from quiv_dist.core.codec import check_round_trip
from quiv_dist.core.injection import check_handler
from quiv_dist.core.triggers import LATEST_MS, due_of, interval_trigger, next_nominal
from quiv_dist.exceptions import (
    ConfigurationError,
    HandlerNotRegisteredError,
    TaskNotActiveError,
    TaskRunningError,
)
from quiv_dist.models import Event, Task
from quiv_dist.runtime.checks import (
    CHECKS,
    check_arguments,
    check_callback,
    check_number,
    check_run_at,
    check_text,
    seconds_to_ms,
)
from quiv_dist.runtime.engine import GONE, Reply
from quiv_dist.runtime.options import TaskOptions, shown
from quiv_dist.runtime.task_reads import TaskReads, not_found, task_model
from quiv_dist.store.namespace import Store
from quiv_dist.store.partition import Partition
from quiv_dist.store.records import NextTick, TaskRow

_UNCHANGED = object()
_FIELDS = {
    "timeout": "timeout_s",
    "retry_backoff": "retry_backoff_s",
    "retry_backoff_max": "retry_backoff_max_s",
    "jitter": "jitter_s",
}


@cache
def actor() -> str:
    """Return who makes calls from here, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


class TaskChanges(TaskReads):
    """Change tasks, and read them."""

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
                return task_model(row.wire, row.args)
            reply = await partition.update_task(
                task_id, row, options.definition(task_id), tick, call=call
            )
            if reply.word == "GONE":
                raise not_found(task_id)
            if reply.word == "OK":
                task = task_model(reply.task, options.arguments)
                self._has_changed(task, options)
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
                raise not_found(task_id)
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
                raise not_found(task_id)
            if reply.word == "RUNNING":
                msg = f"task {task_id!r} has a live run; resume it when that has ended"
                raise TaskRunningError(msg)
            echo.heard(Event.TASK_RESUMED)
        task = await self._full(task_id, reply.task)
        return Reply(None, ((Event.TASK_RESUMED, (task,)),))

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
            raise not_found(task_id)
        if word == "PAUSED":
            msg = f"task {task_id!r} is paused; resume_task() first"
            raise TaskNotActiveError(msg)
        if word == "RUNNING":
            msg = f"task {task_id!r} has a live run; a second beside it is refused"
            raise TaskRunningError(msg)
        return Reply(1)

    def _has_changed(self, task: Task, options: TaskOptions) -> None:
        """Hear of a change that this process made."""
