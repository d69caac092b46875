"""A task as its user wrote it: checked at the door, turned into what the store keeps."""

from __future__ import annotations

import hashlib
import math
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
from quiv_dist.core.wire import TaskStatic, to_ms
from quiv_dist.exceptions import ConfigurationError, HandlerRegistrationError
from quiv_dist.store.keys import PRIORITIES
from quiv_dist.store.records import Definition, NextTick, TaskRow

MOST_TEXT = 200
MOST_COUNT = 2**31 - 1
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
            owner=self.owner or "",
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


def check_first(delay: object, run_at: object) -> None:
    """Refuse a first run that is given twice or wrongly."""
    if delay is not None and run_at is not None:
        msg = f"delay={delay!r} and run_at={run_at!r} are mutually exclusive; pass one"
        raise ConfigurationError(msg)
    if delay is not None:
        check_number("delay", delay, least=0)
    if run_at is not None:
        check_run_at(run_at)


def check_run_at(value: object) -> int:
    """Return ``run_at`` as ms since the epoch; a naive datetime is UTC."""
    if not isinstance(value, datetime):
        msg = f"run_at={value!r} is not accepted: give a datetime (a naive one is UTC)"
        raise ConfigurationError(msg)
    return min(to_ms(value), LATEST_MS)


def check_number(
    name: str, value: object, *, least: float | None = None, above: float | None = None
) -> float:
    """Return a finite or infinite number within bounds; NaN, booleans and strings are refused."""
    bound = f"{least:g} or more" if least is not None else f"more than {above:g}"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not math.isnan(value):  # type: ignore[arg-type]
        found = float(value)  # type: ignore[arg-type]
        if (least is not None and found >= least) or (above is not None and found > above):
            return found
    msg = f"{name}={value!r} is not accepted: give a number, {bound}"
    raise ConfigurationError(msg)


def check_finite(
    name: str, value: object, *, least: float | None = None, above: float | None = None
) -> float:
    """Return a finite number within bounds: JSON, which events travel as, has no infinity."""
    found = check_number(name, value, least=least, above=above)
    if math.isinf(found):
        msg = f"{name}={value!r} is not accepted: give a finite number of seconds"
        raise ConfigurationError(msg)
    return found


def check_count(name: str, value: object, *, least: int) -> int:
    """Return a whole number of ``least`` or more that fits into four bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_COUNT:
        return value
    bounds = f"{least} or more" if not isinstance(value, int) or value < least else "below 2**31"
    msg = f"{name}={value!r} is not accepted: give a whole number, {bounds}"
    raise ConfigurationError(msg)


def check_text(name: str, value: object) -> str:
    """Return a text that is not blank, not too long and has no control characters."""
    if isinstance(value, str) and value.strip() and len(value) <= MOST_TEXT and value.isprintable():
        return value
    msg = (
        f"{name}={value!r} is not accepted: give a text that is not blank, of at most"
        f" {MOST_TEXT} printable characters"
    )
    raise ConfigurationError(msg)


def check_queue(name: str, value: object) -> str:
    """Return a queue name: a text without ``:``, ``|`` or blanks, not beginning with ``@``."""
    text = check_text(name, value)
    if any(character in text for character in ":|, {}") or text.startswith("@"):
        msg = f"{name}={value!r} is not accepted: no ':', '|', ',', braces, blanks or leading '@'"
        raise ConfigurationError(msg)
    return text


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return one of ``choices``."""
    if value in choices:
        return str(value)
    msg = f"{name}={value!r} is not accepted: give one of {', '.join(map(repr, choices))}"
    raise ConfigurationError(msg)


def check_priority(value: object) -> str:
    """Return a priority."""
    return check_choice("priority", value, PRIORITIES)


def check_timeout(value: object) -> float | None:
    """Return a timeout in seconds; ``None`` and infinity mean none."""
    if value is None:
        return None
    found = check_number("timeout", value, above=0)
    return None if math.isinf(found) else found


CHECKS: dict[str, Callable[[Any], Any]] = {
    "task_name": lambda value: check_text("task_name", value),
    "timeout": check_timeout,
    "max_retries": lambda value: check_count("max_retries", value, least=0),
    "retry_backoff": lambda value: check_finite("retry_backoff", value, above=0),
    "retry_backoff_max": lambda value: check_number("retry_backoff_max", value, above=0),
    "jitter": lambda value: check_finite("jitter", value, least=0),
    "queue": lambda value: check_queue("queue", value),
    "priority": check_priority,
    "max_crashes": lambda value: check_count("max_crashes", value, least=1),
}


def resolve_handler(func: object, kwargs: dict[str, Any]) -> str:
    """Return a handler's travelling name, empty for one that must be pinned."""
    if not callable(func):
        msg = f"func={func!r} is not callable"
        raise HandlerRegistrationError(msg)
    check_handler(func, kwargs)
    return handler_name(func) or ""


def check_arguments(args: object, kwargs: object) -> None:
    """Refuse arguments that are no tuple and no dict."""
    if not isinstance(args, tuple):
        msg = f"args={args!r} is not accepted: give a tuple"
        raise ConfigurationError(msg)
    if not isinstance(kwargs, dict):
        msg = f"kwargs={kwargs!r} is not accepted: give a dict"
        raise ConfigurationError(msg)


def shown(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return a pinned handler's arguments for readers: they never leave the process to run."""
    try:
        return encode_arguments(args, kwargs)
    except ConfigurationError:
        texts = {str(key): repr(value) for key, value in kwargs.items()}
        return encode_arguments(tuple(repr(value) for value in args), texts)


def check_callback(callback: object) -> None:
    """Refuse a progress callback that cannot be called."""
    if callback is not None and not callable(callback):
        msg = f"progress_callback={callback!r} is not callable"
        raise HandlerRegistrationError(msg)


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


def seconds_to_ms(seconds: float) -> int:
    """Return whole milliseconds, at most those of the latest instant."""
    return LATEST_MS if seconds * 1000 > LATEST_MS else round(seconds * 1000)
