from __future__ import annotations

import logging
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from quiv_dist.events.listener_thread import BACKLOG_WARNING, ListenerThread
from tests.unit.loops import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def thread() -> Iterator[ListenerThread]:
    thread = ListenerThread()
    yield thread
    thread.stop(DEADLINE_S)


def test_calls_are_made_in_order_on_one_daemon_thread(thread: ListenerThread) -> None:
    made: list[tuple[int, threading.Thread]] = []
    thread.post(lambda: made.append((0, threading.current_thread())))
    thread.start()
    thread.start()
    for number in range(1, 100):
        thread.post(partial(lambda n: made.append((n, threading.current_thread())), number))
    assert thread.stop(DEADLINE_S)
    assert [number for number, _ in made] == list(range(100))
    (only,) = {by for _, by in made}
    assert only is not threading.current_thread()
    assert only.daemon


def test_a_slow_call_delays_neither_the_poster_nor_loses_what_follows(
    thread: ListenerThread,
) -> None:
    thread.start()
    entered, release, after = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        release.wait(DEADLINE_S)

    thread.post(slow)
    assert entered.wait(DEADLINE_S)
    thread.post(after.set)
    assert thread.backlog == 1
    assert not after.is_set()
    release.set()
    assert after.wait(DEADLINE_S)


@pytest.mark.parametrize("fault", [ValueError("broken"), SystemExit(3)])
def test_a_fault_is_logged_and_the_thread_goes_on(
    thread: ListenerThread, caplog: pytest.LogCaptureFixture, fault: BaseException
) -> None:
    def broken() -> None:
        raise fault

    after = threading.Event()
    thread.start()
    thread.post(broken)
    thread.post(after.set)
    assert after.wait(DEADLINE_S)
    (record,) = caplog.records
    assert "broken" in record.getMessage()


def test_after_the_stop_calls_are_dropped_and_told_at_debug(
    thread: ListenerThread, caplog: pytest.LogCaptureFixture
) -> None:
    thread.start()
    assert thread.stop(DEADLINE_S)
    caplog.set_level(logging.DEBUG, logger="Quiv")
    called = threading.Event()
    assert thread.post(called.set) is False
    thread.start()
    assert thread.stop(DEADLINE_S)
    assert not called.is_set()
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_a_thread_that_never_started_stops_at_once(thread: ListenerThread) -> None:
    thread.post(sys.exit)
    assert thread.stop(0)
    assert thread.backlog == 0


def test_a_stop_gives_up_on_a_call_that_does_not_end(
    thread: ListenerThread, caplog: pytest.LogCaptureFixture
) -> None:
    thread.start()
    entered, release, dropped = threading.Event(), threading.Event(), threading.Event()

    def stuck() -> None:
        entered.set()
        release.wait(DEADLINE_S)

    thread.post(stuck)
    thread.post(dropped.set)
    assert entered.wait(DEADLINE_S)
    assert thread.stop(0.01) is False
    assert "1 waiting call(s) dropped" in caplog.text
    release.set()
    assert thread.stop(DEADLINE_S)
    assert not dropped.is_set()


def test_a_listener_may_stop_the_thread_it_runs_on(thread: ListenerThread) -> None:
    results: list[bool] = []
    thread.start()
    thread.post(lambda: results.append(thread.stop(DEADLINE_S)))
    assert thread.stop(DEADLINE_S)
    assert results == [False]


def test_falling_behind_is_told_once_until_it_has_caught_up(
    thread: ListenerThread, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(BACKLOG_WARNING + 5):
        thread.post(int)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(BACKLOG_WARNING) in caplog.text
