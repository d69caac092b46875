"""Who listens to what, in this process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from quiv_dist.exceptions import ConfigurationError
from quiv_dist.models import Event

if TYPE_CHECKING:
    from collections.abc import Callable

# Events whose payload starts with a task, so that a filter on its name means something.
_PREFIXES_WITH_TASK = ("task_", "job_", "tick_")


@dataclass(frozen=True, slots=True)
class _Registration:
    callback: Callable[..., Any]
    task_name: str | None

    def wants(self, task_name: str | None) -> bool:
        if self.task_name is None:
            return True
        return task_name is not None and fnmatchcase(task_name, self.task_name)


class ListenerRegistry:
    """The listeners of one instance, in registration order; safe to use from any thread.

    ``on_change``, if set, is called after the set of kinds listened to has changed, without
    arguments, because two changes at once may arrive in either order: whoever is called reads
    ``kinds()``. It must neither block nor raise. Whoever promises that later events will be
    heard waits for the subscription itself, after ``add`` has returned.
    """

    def __init__(self, on_change: Callable[[], None] | None = None) -> None:
        self.on_change = on_change
        self._lock = threading.Lock()
        # Tuples are replaced, never changed, so that readers need no lock and a listener may
        # add and remove listeners while it is called.
        self._registrations: dict[Event, tuple[_Registration, ...]] = {}

    def add(
        self, event: Event, callback: Callable[..., Any], *, task_name: str | None = None
    ) -> None:
        """Register ``callback`` for ``event``; registered twice, it is called twice.

        Args:
            event: The kind of event.
            callback: A function or coroutine function taking the event and its payload.
            task_name: Only events of tasks whose name matches; ``*``, ``?`` and ``[...]`` are
                wildcards, upper and lower case differ.

        Raises:
            ConfigurationError: If an argument is not of its kind, or ``task_name`` is given
                for an event that no task has.
        """
        _check(event, callback, task_name)
        with self._lock:
            known = self._registrations.get(event, ())
            self._registrations[event] = (*known, _Registration(callback, task_name))
        if not known:
            self._changed()

    def remove(self, event: Event, callback: Callable[..., Any]) -> None:
        """Take back the oldest registration of ``callback``; an unknown one is ignored."""
        with self._lock:
            known = self._registrations.get(event, ())
            # Compared by equality: each access makes a bound method anew.
            at = next((i for i, known_ in enumerate(known) if known_.callback == callback), None)
            if at is None:
                return
            remaining = known[:at] + known[at + 1 :]
            if remaining:
                self._registrations[event] = remaining
            else:
                del self._registrations[event]
        if not remaining:
            self._changed()

    def listeners(self, event: Event, task_name: str | None) -> list[Callable[..., Any]]:
        """Return the callbacks to call for an event, in registration order.

        ``task_name`` is the name of the event's task, ``None`` for events without one.
        """
        registrations = self._registrations.get(event, ())
        return [known.callback for known in registrations if known.wants(task_name)]

    def kinds(self) -> frozenset[Event]:
        """Return the kinds of event that have a listener."""
        with self._lock:
            return frozenset(self._registrations)

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()


def _check(event: object, callback: object, task_name: object) -> None:
    if not isinstance(event, Event):
        message = f"event must be a member of Event, such as Event.TASK_ADDED, not {event!r}"
        raise ConfigurationError(message)
    if not callable(callback):
        message = f"callback must be a function or coroutine function, not {callback!r}"
        raise ConfigurationError(message)
    if task_name is None:
        return
    if not isinstance(task_name, str) or not task_name:
        message = f"task_name must be a name or a pattern such as 'billing-*', not {task_name!r}"
        raise ConfigurationError(message)
    if not event.value.startswith(_PREFIXES_WITH_TASK):
        message = (
            f"task_name={task_name!r} cannot filter {event.value}: only TASK_*, JOB_* and"
            " TICK_* events belong to a task"
        )
        raise ConfigurationError(message)
