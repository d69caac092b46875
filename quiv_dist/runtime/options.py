"""A task as its user wrote it: checked at the door, turned into what the store keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import msgspec

from quiv_dist.core.callables import is_async_callable
from quiv_dist.core.codec import check_round_trip, decode_arguments, encode_arguments, plain_json
from quiv_dist.core.injection import check_handler
from quiv_dist.core.naming import handler_name
from quiv_dist.core.spec import Executor, JobSpec
from quiv_dist.core.triggers import (
    LATEST_MS,
    Trigger,
    cron_trigger,
    interval_trigger,
    next_nominal,
    once_trigger,
)
from quiv_dist.core.wire import TaskStatic, TaskWire, decode_task
from quiv_dist.exceptions import ConfigurationError, HandlerRegistrationError
from quiv_dist.runtime.checks import (
    CHECKS,
    check_arguments,
    check_first,
    check_number,
    check_run_at,
    check_text,
    seconds_to_ms,
)
from quiv_dist.store.records import Definition, NextTick, TaskRow

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


@dataclass(frozen=True)
class TaskOptions:
    """Everything about a task that users write. Durations in seconds."""

    task_name: str
    handler: str
    arguments: bytes
    trigger: Trigger
    run_once: bool = False
    timeout_s: float | None = None
    max_retries: int = 0
    retry_backoff_s: float = 30.0
    retry_backoff_max_s: float = 3600.0
    jitter_s: float = 0.0
    queue: str = "default"
    priority: str = "normal"
    max_crashes: int = 3
    executor: Executor = "auto"
    store_result: bool = False
    owner: str | None = None
    pinned_to: str | None = None

    def spec(self) -> JobSpec:
        """Return the part that travels with each job."""
        return JobSpec(
            executor=self.executor,
            timeout_ms=None if self.timeout_s is None else max(1, seconds_to_ms(self.timeout_s)),
            max_retries=self.max_retries,
            retry_backoff_ms=seconds_to_ms(self.retry_backoff_s),
            retry_backoff_max_ms=seconds_to_ms(max(self.retry_backoff_max_s, self.retry_backoff_s)),
            store_result=self.store_result,
        )

    def static(self, task_id: str) -> TaskStatic:
        """Return the part that events carry."""
        args, kwargs, omitted = plain_json(*decode_arguments(self.arguments))
        trigger = self.trigger
        return TaskStatic(
            id=task_id,
            task_name=self.task_name,
            args=msgspec.UNSET if args == b"[]" else msgspec.Raw(args),
            kwargs=msgspec.UNSET if kwargs == b"{}" else msgspec.Raw(kwargs),
            args_omitted=omitted,
            interval_seconds=None if trigger.interval_ms is None else trigger.interval_ms / 1000,
            fixed_interval=trigger.fixed_interval,
            run_once=self.run_once,
            timeout_seconds=self.timeout_s,
            max_retries=self.max_retries,
            retry_backoff_seconds=self.retry_backoff_s,
            jitter_seconds=self.jitter_s,
            cron=trigger.cron,
            cron_timezone=trigger.timezone if trigger.cron else None,
            handler=self.handler,
            queue=self.queue,
            priority=self.priority,
            max_crashes=self.max_crashes,
            owner=self.owner,
            pinned_to=self.pinned_to,
        )

    def ended(self, task_id: str, next_ms: int) -> TaskWire:
        """Return the task as it was when it ended by itself."""
        members = self.static(task_id).members()
        return decode_task(b'{%b,"status":"active","next_run_at_ms":%d}' % (members, next_ms))

    def definition(self, task_id: str) -> Definition:
        """Return what the store keeps."""
        trigger = self.trigger
        mode: Literal["fixed", "after", "cron", "once"]
        if trigger.kind == "interval":
            mode = "fixed" if trigger.fixed_interval else "after"
        else:
            mode = trigger.kind
        definition = Definition(
            name=self.task_name,
            handler=self.handler,
            queue=self.queue,
            priority=self.priority,
            trigger=_encode(trigger),
            mode=mode,
            every_ms=trigger.interval_ms or 0,
            jitter_ms=trigger.jitter_ms,
            static=self.static(task_id).members(),
            spec=self.spec().encode(),
            args=self.arguments,
            max_crashes=self.max_crashes,
            pinned=self.pinned_to or "",
        )
        digest = hashlib.blake2b(_encode(definition.pairs()), digest_size=16).hexdigest()
        return replace(definition, fingerprint=digest)

    @classmethod
    def read(cls, row: TaskRow) -> TaskOptions:
        """Return the options that a stored task was written with."""
        wire, spec = row.wire, JobSpec.decode(row.spec)
        return cls(
            task_name=wire.task_name,
            handler=wire.handler,
            arguments=row.args,
            trigger=msgspec.msgpack.decode(row.trigger, type=Trigger),
            run_once=wire.run_once,
            timeout_s=wire.timeout_seconds,
            max_retries=wire.max_retries,
            retry_backoff_s=wire.retry_backoff_seconds,
            retry_backoff_max_s=spec.retry_backoff_max_ms / 1000,
            jitter_s=wire.jitter_seconds,
            queue=wire.queue,
            priority=wire.priority,
            max_crashes=wire.max_crashes,
            executor=spec.executor,
            store_result=spec.store_result,
            owner=wire.owner,
            pinned_to=wire.pinned_to,
        )


def make_trigger(
    *,
    interval: float | None,
    cron: str | None,
    run_once: bool,
    fixed_interval: bool,
    cron_timezone: str,
    jitter: float,
) -> Trigger:
    """Return the trigger of these parameters.

    Raises:
        ConfigurationError: none or more than one was given, or its value is not accepted.

    """
    if run_once:
        if cron is not None:
            msg = "cron and run_once are mutually exclusive; pass one"
            raise ConfigurationError(msg)
        return once_trigger()
    if cron is not None:
        if interval is not None:
            msg = "interval and cron are mutually exclusive; pass one"
            raise ConfigurationError(msg)
        return cron_trigger(cron, timezone=cron_timezone, jitter_s=jitter)
    if interval is None:
        msg = "interval=None is not accepted: give interval= in seconds, cron=, or run_once=True"
        raise ConfigurationError(msg)
    return interval_trigger(interval, fixed=fixed_interval, jitter_s=jitter)


def first_tick(
    trigger: Trigger,
    task_id: str,
    now_ms: int,
    *,
    delay: float | None,
    run_at: datetime | None,
) -> NextTick:
    """Return the first tick of a task. Past times are now; a cron's is its next fire.

    Raises:
        ConfigurationError: both ``delay`` and ``run_at`` were given, or one is not accepted.

    """
    check_first(delay, run_at)
    at: int | None = None
    if run_at is not None:
        at = check_run_at(run_at)
    elif delay is not None:
        at = now_ms + seconds_to_ms(check_number("delay", delay, least=0))
    if at is None and trigger.kind == "cron":
        at = next_nominal(trigger, now_ms, now_ms, task_id)
    if at is None or at <= now_ms:
        return NextTick(None, None, None)
    at = min(at, LATEST_MS)
    return NextTick(at, at, at)


def resolve_handler(func: object, kwargs: dict[str, Any]) -> str:
    """Return a handler's travelling name, empty for one that must be pinned."""
    if not callable(func):
        msg = f"func={func!r} is not callable"
        raise HandlerRegistrationError(msg)
    check_handler(func, kwargs)
    return handler_name(func) or ""


def shown(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return a pinned handler's arguments for readers: they never leave the process to run."""
    try:
        return encode_arguments(args, kwargs)
    except ConfigurationError:
        texts = {str(key): repr(value) for key, value in kwargs.items()}
        return encode_arguments(tuple(repr(value) for value in args), texts)


def task_options(
    task_name: str,
    func: Callable[..., Any],
    *,
    interval: float | None,
    cron: str | None,
    cron_timezone: str,
    run_once: bool,
    fixed_interval: bool,
    args: tuple[Any, ...] | None,
    kwargs: dict[str, Any] | None,
    async_executor: Executor,
    handler: str | None = None,
    **checked: Any,
) -> TaskOptions:
    """Return the options of a task to add; ``handler`` is empty for one that must be pinned.

    ``checked`` are the parameters in ``CHECKS``.

    Raises:
        ConfigurationError: a parameter is not accepted.
        HandlerRegistrationError: ``func`` is not callable.

    """
    args, kwargs = () if args is None else args, {} if kwargs is None else kwargs
    check_text("task_name", task_name)
    values = {name: CHECKS[name](value) for name, value in checked.items()}
    trigger = make_trigger(
        interval=interval, cron=cron, run_once=run_once, fixed_interval=fixed_interval,
        cron_timezone=cron_timezone, jitter=values["jitter"],
    )  # fmt: skip
    check_arguments(args, kwargs)
    found = resolve_handler(func, kwargs)
    name = found if handler is None else handler
    arguments = check_round_trip(func, args, kwargs) if name else shown(args, kwargs)
    return TaskOptions(
        task_name=task_name,
        handler=name,
        arguments=arguments,
        trigger=trigger,
        run_once=run_once,
        timeout_s=values["timeout"],
        max_retries=values["max_retries"],
        retry_backoff_s=values["retry_backoff"],
        retry_backoff_max_s=values["retry_backoff_max"],
        jitter_s=values["jitter"],
        queue=values["queue"],
        priority=values["priority"],
        max_crashes=values["max_crashes"],
        executor=async_executor if is_async_callable(func) else "thread",
        owner=name.partition(":")[0] or None,
    )
