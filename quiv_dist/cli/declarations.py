"""How stored tasks differ from those that an application declares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from quiv_dist.core.codec import decode_arguments
from quiv_dist.core.triggers import Trigger
from quiv_dist.runtime.handles import DeclaredTask
from quiv_dist.runtime.options import TaskOptions
from quiv_dist.store.namespace import Store


@dataclass(frozen=True)
class Difference:
    """A declared task that is stored otherwise: for each field, what is stored and declared."""

    task_id: str
    fields: dict[str, tuple[Any, Any]]

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {_shown(stored)} -> {_shown(declared)}"
            for name, (stored, declared) in self.fields.items()
        )


async def differences(store: Store, declared: Iterable[DeclaredTask]) -> list[Difference]:
    """Compare declared tasks with what is stored under their ids; missing ones are no difference.

    Raises:
        RedisUnavailableError: the server gave no answer in time.

    """
    found = []
    for task in declared:
        partition = store.partition(store.partition_of_task(task.task_id))
        row = (await partition.read_tasks([task.task_id]))[0]
        if row is None or row.fingerprint == task.options.definition(task.task_id).fingerprint:
            continue
        found.append(Difference(task.task_id, _fields(TaskOptions.read(row), task.options)))
    return found


def _fields(stored: TaskOptions, declared: TaskOptions) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for field in fields(TaskOptions):
        old, new = getattr(stored, field.name), getattr(declared, field.name)
        if old == new:
            continue
        if isinstance(old, Trigger) and isinstance(new, Trigger):
            found["schedule"] = (schedule(old), schedule(new))
        elif field.name == "arguments":
            found["arguments"] = (decode_arguments(old), decode_arguments(new))
        else:
            found[field.name] = (old, new)
    return found


def schedule(trigger: Trigger) -> str:
    """Return a trigger in a few words."""
    jitter = f" jitter {trigger.jitter_ms / 1000:g} s" if trigger.jitter_ms else ""
    if trigger.cron:
        return f"cron {trigger.cron} {trigger.timezone}{jitter}"
    if trigger.interval_ms is None:
        return "once"
    after = "" if trigger.fixed_interval else " after the end of a run"
    return f"every {trigger.interval_ms / 1000:g} s{after}{jitter}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
