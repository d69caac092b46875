from __future__ import annotations

import threading
from functools import partial

import pytest

from quiv_dist.core.stop import StopEvent
from quiv_dist.models import StopReason
from tests.unit.loops import DEADLINE_S, in_thread


def test_it_is_a_threading_event() -> None:
    stop = StopEvent()
    assert isinstance(stop, threading.Event)
    assert not stop.is_set()
    assert not stop.wait(0)
    stop.set()
    assert stop.is_set()
    assert stop.wait()


def test_the_first_reason_wins() -> None:
    stop = StopEvent()
    assert stop.reason is None
    stop.set(StopReason.LEASE_LOST)
    stop.set(StopReason.CANCEL)
    assert stop.reason is StopReason.LEASE_LOST


def test_a_set_without_a_reason_is_a_cancel() -> None:
    stop = StopEvent()
    stop.set()
    assert stop.reason is StopReason.CANCEL


def test_a_look_before_the_set_is_not_seen_and_neither_is_a_peek() -> None:
    stop = StopEvent()
    stop.is_set()
    stop.wait(0)
    assert not stop.peek()
    stop.set()
    assert stop.peek()
    assert not stop.seen


@pytest.mark.parametrize("look", [StopEvent.is_set, StopEvent.wait])
def test_a_look_after_the_set_is_seen(look: object) -> None:
    stop = StopEvent()
    stop.set()
    assert callable(look)
    assert look(stop)
    assert stop.seen


def test_a_waiter_that_is_woken_has_seen_it_and_can_read_why() -> None:
    stop = StopEvent()
    reasons: list[StopReason | None] = []

    def wait() -> None:
        if stop.wait(DEADLINE_S):
            reasons.append(stop.reason)

    waiter = in_thread(wait)
    stop.set(StopReason.SHUTDOWN)
    waiter.join(DEADLINE_S)
    assert reasons == [StopReason.SHUTDOWN]
    assert stop.seen


def test_callbacks_are_called_once_and_at_once_when_it_is_set_already() -> None:
    stop = StopEvent()
    calls: list[str] = []
    stop.add_callback(lambda: calls.append(f"before, set: {stop.peek()}"))
    stop.set()
    stop.set()
    stop.add_callback(lambda: calls.append("after"))
    assert calls == ["before, set: True", "after"]
    assert not stop.seen


def test_a_removed_callback_is_not_called() -> None:
    stop = StopEvent()
    calls: list[str] = []

    def callback() -> None:
        calls.append("called")

    stop.add_callback(callback)
    stop.add_callback(callback)
    stop.remove_callback(callback)
    stop.remove_callback(calls.clear)
    stop.set()
    assert calls == ["called"]


def test_a_failing_callback_is_logged_and_stops_neither_the_others_nor_the_set(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop = StopEvent()
    calls: list[str] = []

    def fails() -> None:
        raise ValueError("broken")

    stop.add_callback(fails)
    stop.add_callback(lambda: calls.append("other"))
    stop.set()
    assert calls == ["other"]
    assert "broken" in caplog.text


def test_cleared_it_is_as_new() -> None:
    stop = StopEvent()
    stop.set(StopReason.TIMEOUT)
    assert stop.is_set()
    stop.clear()
    assert (stop.peek(), stop.reason, stop.seen) == (False, None, False)
    stop.set(StopReason.SHUTDOWN)
    assert stop.reason is StopReason.SHUTDOWN


def note_reason(calls: list[StopReason | None], stop: StopEvent) -> None:
    calls.append(stop.reason)


def set_with_others(barrier: threading.Barrier, stop: StopEvent, reason: StopReason) -> None:
    barrier.wait(DEADLINE_S)
    stop.set(reason)


def test_of_many_threads_setting_it_one_reason_stays_and_callbacks_run_once() -> None:
    for _ in range(50):
        stop = StopEvent()
        calls: list[StopReason | None] = []
        stop.add_callback(partial(note_reason, calls, stop))
        barrier = threading.Barrier(len(StopReason))
        threads = [
            threading.Thread(target=set_with_others, args=(barrier, stop, reason))
            for reason in StopReason
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert calls == [stop.reason]
