from __future__ import annotations

import functools
from typing import Any

import pytest

from quiv_dist.events.registry import ListenerRegistry
from quiv_dist.exceptions import ConfigurationError
from quiv_dist.models import Event


def first(*_: object) -> None: ...


def second(*_: object) -> None: ...


class Audit:
    def on_event(self, *_: object) -> None: ...


def test_listeners_come_in_registration_order_and_by_kind() -> None:
    registry = ListenerRegistry()
    registry.add(Event.JOB_FAILED, second)
    registry.add(Event.JOB_FAILED, first)
    registry.add(Event.JOB_COMPLETED, first)
    assert registry.listeners(Event.JOB_FAILED, "t") == [second, first]
    assert registry.listeners(Event.JOB_COMPLETED, "t") == [first]
    assert registry.listeners(Event.JOB_STARTED, "t") == []


def test_registered_twice_is_called_twice_and_removal_takes_the_oldest_one() -> None:
    registry = ListenerRegistry()
    for callback in (first, second, first):
        registry.add(Event.TASK_ADDED, callback)
    assert registry.listeners(Event.TASK_ADDED, "t") == [first, second, first]
    registry.remove(Event.TASK_ADDED, first)
    assert registry.listeners(Event.TASK_ADDED, "t") == [second, first]
    registry.remove(Event.TASK_ADDED, first)
    assert registry.listeners(Event.TASK_ADDED, "t") == [second]


def test_removing_an_unknown_listener_is_ignored() -> None:
    registry = ListenerRegistry()
    registry.remove(Event.TASK_ADDED, first)
    registry.add(Event.TASK_ADDED, first)
    registry.remove(Event.TASK_ADDED, second)
    registry.remove(Event.TASK_REMOVED, first)
    assert registry.listeners(Event.TASK_ADDED, "t") == [first]


def test_a_bound_method_is_removed_by_the_same_method_of_the_same_object() -> None:
    registry = ListenerRegistry()
    audit, other = Audit(), Audit()
    registry.add(Event.TASK_ADDED, audit.on_event)
    registry.remove(Event.TASK_ADDED, other.on_event)
    assert registry.listeners(Event.TASK_ADDED, "t") == [audit.on_event]
    registry.remove(Event.TASK_ADDED, audit.on_event)
    assert registry.listeners(Event.TASK_ADDED, "t") == []


@pytest.mark.parametrize(
    ("pattern", "name", "heard"),
    [
        ("billing-*", "billing-daily", True),
        ("billing-*", "reports-daily", False),
        ("billing-*", "Billing-daily", False),
        ("billing", "billing-daily", False),
        ("billing", "billing", True),
        ("shard-[0-3]", "shard-2", True),
        ("shard-[0-3]", "shard-4", False),
    ],
)
def test_a_task_name_filter_is_a_pattern_that_minds_case(
    pattern: str, name: str, heard: bool
) -> None:
    registry = ListenerRegistry()
    registry.add(Event.JOB_FAILED, first, task_name=pattern)
    registry.add(Event.JOB_FAILED, second)
    assert registry.listeners(Event.JOB_FAILED, name) == ([first, second] if heard else [second])


@pytest.mark.parametrize(
    ("event", "callback", "task_name", "named"),
    [
        ("task_added", first, None, "event must be .* 'task_added'"),
        (None, first, None, "event must be .* None"),
        (Event.TASK_ADDED, "first", None, "callback must be .* 'first'"),
        (Event.TASK_ADDED, None, None, "callback must be .* None"),
        (Event.TASK_ADDED, first, "", "task_name must be .* ''"),
        (Event.TASK_ADDED, first, 7, "task_name must be .* 7"),
        (Event.LEADER_ELECTED, first, "a*", "leader_elected"),
        (Event.NODE_JOINED, first, "a*", "node_joined"),
        (Event.EVENTS_LOST, first, "a*", "events_lost"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_registered(
    event: Any, callback: Any, task_name: Any, named: str
) -> None:
    registry = ListenerRegistry()
    with pytest.raises(ConfigurationError, match=named):
        registry.add(event, callback, task_name=task_name)
    assert registry.kinds() == frozenset()


def test_the_hook_is_called_when_the_set_of_kinds_changes_and_only_then() -> None:
    seen: list[frozenset[Event]] = []
    registry = ListenerRegistry()
    registry.on_change = lambda: seen.append(registry.kinds())
    added, removed = Event.TASK_ADDED, Event.TASK_REMOVED
    steps = [
        (functools.partial(registry.add, added, first), [{added}]),
        (functools.partial(registry.add, added, second), []),
        (functools.partial(registry.add, removed, first), [{added, removed}]),
        (functools.partial(registry.remove, added, first), []),
        (functools.partial(registry.remove, added, first), []),
        (functools.partial(registry.remove, added, second), [{removed}]),
        (functools.partial(registry.remove, removed, first), [set()]),
    ]
    for step, expected in steps:
        seen.clear()
        step()
        assert seen == expected


def test_listeners_handed_out_do_not_change_with_the_registry() -> None:
    registry = ListenerRegistry()
    registry.add(Event.TASK_ADDED, first)
    handed_out = registry.listeners(Event.TASK_ADDED, "t")
    registry.remove(Event.TASK_ADDED, first)
    registry.add(Event.TASK_ADDED, second)
    assert handed_out == [first]
