"""Values checked at the door: each refusal names the parameter, the value and what is accepted."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from quiv_dist.core.triggers import LATEST_MS
from quiv_dist.core.wire import to_ms
from quiv_dist.exceptions import ConfigurationError, HandlerRegistrationError
from quiv_dist.store.keys import PRIORITIES

MOST_TEXT = 200
MOST_COUNT = 2**31 - 1


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


def check_arguments(args: object, kwargs: object) -> None:
    """Refuse arguments that are no tuple and no dict."""
    if not isinstance(args, tuple):
        msg = f"args={args!r} is not accepted: give a tuple"
        raise ConfigurationError(msg)
    if not isinstance(kwargs, dict):
        msg = f"kwargs={kwargs!r} is not accepted: give a dict"
        raise ConfigurationError(msg)


def check_callback(callback: object) -> None:
    """Refuse a progress callback that cannot be called."""
    if callback is not None and not callable(callback):
        msg = f"progress_callback={callback!r} is not callable"
        raise HandlerRegistrationError(msg)


def seconds_to_ms(seconds: float) -> int:
    """Return whole milliseconds, at most those of the latest instant."""
    return LATEST_MS if seconds * 1000 > LATEST_MS else round(seconds * 1000)
