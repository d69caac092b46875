"""Echo suppression: a process hears its own event once, whatever comes first."""

from __future__ import annotations

import pytest

from quiv_dist.core.wire import Envelope
from quiv_dist.events import echoes
from quiv_dist.events.echoes import EchoFilter
from quiv_dist.models import Event


def event(number: int, kind: Event = Event.TASK_ADDED, call: str = "") -> Envelope:
    return Envelope(
        id=f"{number}-0", prev="", type=kind.value, at_ms=number, partition=0, log="l", call=call
    )


class Ear:
    """What reaches the listeners of a process whose events all pass the filter."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.filter = EchoFilter(self.deliver)

    def deliver(self, envelope: Envelope) -> None:
        self.heard.append(envelope.id)

    def comes(self, *envelopes: Envelope) -> None:
        for envelope in envelopes:
            if not self.filter.keeps(envelope):
                self.deliver(envelope)


@pytest.fixture
def ear() -> Ear:
    return Ear()


def test_events_of_others_pass_at_once(ear: Ear) -> None:
    with ear.filter.call("mine"):
        ear.comes(event(1), event(2, call="theirs"))
        assert ear.heard == ["1-0", "2-0"]


def test_an_echo_before_the_reply_is_dropped_when_the_caller_has_heard_it(ear: Ear) -> None:
    with ear.filter.call("mine") as echo:
        ear.comes(event(1, call="mine"))
        echo.heard(Event.TASK_ADDED)
    assert ear.heard == []


def test_an_echo_after_the_call_is_dropped(ear: Ear) -> None:
    with ear.filter.call("mine") as echo:
        echo.heard(Event.TASK_ADDED)
    ear.comes(event(1, call="mine"))
    assert ear.heard == []


def test_each_heard_drops_one_echo(ear: Ear) -> None:
    with ear.filter.call("mine") as echo:
        echo.heard(Event.TASK_ADDED)
        ear.comes(event(1, call="mine"))
        echo.heard(Event.TASK_ADDED)
    ear.comes(event(2, call="mine"), event(3, call="mine"))
    assert ear.heard == ["3-0"]


def test_a_failed_call_delivers_what_it_held_in_order(ear: Ear) -> None:
    def fail() -> None:
        with ear.filter.call("mine"):
            ear.comes(event(1, call="mine"), event(2, Event.JOB_SCHEDULED, call="mine"))
            assert ear.heard == []
            raise ConnectionError("the reply was lost")

    with pytest.raises(ConnectionError):
        fail()
    assert ear.heard == ["1-0", "2-0"]


def test_echoes_that_come_after_a_failed_call_are_delivered(ear: Ear) -> None:
    def fail() -> None:
        with ear.filter.call("mine"):
            raise ConnectionError("the reply was lost")

    with pytest.raises(ConnectionError):
        fail()
    ear.comes(event(1, call="mine"))
    assert ear.heard == ["1-0"]


def test_a_call_that_fails_after_its_dispatch_is_not_heard_twice(ear: Ear) -> None:
    def fail() -> None:
        with ear.filter.call("mine") as echo:
            ear.comes(event(1, call="mine"), event(2, Event.JOB_CANCELLED, call="mine"))
            echo.heard(Event.TASK_ADDED)
            raise ValueError("later in the same call")

    with pytest.raises(ValueError, match="later"):
        fail()
    assert ear.heard == ["2-0"]


def test_other_kinds_of_the_same_call_are_delivered_at_its_end_and_after(ear: Ear) -> None:
    with ear.filter.call("mine") as echo:
        echo.heard(Event.TASK_REMOVED)
        ear.comes(event(1, Event.JOB_CANCELLED, call="mine"))
        assert ear.heard == []
    assert ear.heard == ["1-0"]
    ear.comes(event(2, Event.JOB_CANCELLED, call="mine"), event(3, Event.TASK_REMOVED, call="mine"))
    assert ear.heard == ["1-0", "2-0"]


def test_calls_at_once_are_kept_apart(ear: Ear) -> None:
    with ear.filter.call("one") as one:
        with ear.filter.call("two"):
            ear.comes(event(1, call="one"), event(2, call="two"))
            one.heard(Event.TASK_ADDED)
        assert ear.heard == ["2-0"]
    assert ear.heard == ["2-0"]


def test_calls_whose_echo_never_comes_are_forgotten_oldest_first(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echoes, "MOST_RECENT_CALLS", 3)
    for number in range(5):
        with ear.filter.call(f"call-{number}") as echo:
            echo.heard(Event.TASK_ADDED)
    ear.comes(*(event(number, call=f"call-{number}") for number in range(5)))
    assert ear.heard == ["0-0", "1-0"]


def test_what_came_back_leaves_nothing_behind(ear: Ear) -> None:
    for number in range(10):
        with ear.filter.call(f"call-{number}") as echo:
            echo.heard(Event.TASK_ADDED)
            if number % 2:
                ear.comes(event(number, call=f"call-{number}"))
        if not number % 2:
            ear.comes(event(number, call=f"call-{number}"))
    assert ear.heard == []
    assert not ear.filter._recent
    assert not ear.filter._in_flight
