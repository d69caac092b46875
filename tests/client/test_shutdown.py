"""The end of an instance, and what it leaves: nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from quiv_dist import AsyncQuiv, Event, Quiv, SchedulerStoppedError
from quiv_dist.store.keys import Keys
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard, eventually


def sockets() -> set[str]:
    return {
        f"{entry.name} {entry.readlink()}"
        for entry in Path("/proc/self/fd").iterdir()
        if entry.is_symlink() and "socket:" in str(entry.readlink())
    }


def busy_life(face: Any) -> None:
    """Use every part of an instance once."""
    heard = Heard()
    face.add_listener(Event.JOB_COMPLETED, heard)
    face.add_task("recurring", jobs.note, interval=3600, task_id="stays")
    face.add_task("pinned", lambda: None, interval=3600)
    face.start()
    heard.wait_for(Event.JOB_COMPLETED, Event.JOB_COMPLETED)


def test_no_thread_and_no_socket_is_left(make_face: Make) -> None:
    face = make_face()
    threads, open_before = set(threading.enumerate()), sockets()
    busy_life(face)
    face.shutdown()
    # The application's loop, and the executor that it made for itself, are its own.
    left = {t.name for t in set(threading.enumerate()) - threads}
    assert {name for name in left if not name.startswith(("app-loop", "asyncio_"))} == set()
    eventually(lambda: sockets() <= open_before, "the end of the sockets")


def test_no_key_of_the_instance_is_left_and_tasks_stay(
    make: Make, redis_url: str, namespace: str
) -> None:
    quiv = make()
    busy_life(quiv)
    node_id = quiv.asynchronous.engine.record.id
    quiv.shutdown()
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        found = list(client.scan_iter(match=f"quiv:{{{namespace}/*"))
        assert [key for key in found if node_id in key and client.ttl(key) == -1] == []
        nodes = client.zrange(Keys(namespace).key("nodes"), 0, -1)
        assert nodes == []
        assert client.exists(Keys(namespace).key("leader")) == 0
    assert [task.id for task in make().get_all_tasks()] == ["stays"]


def test_every_call_after_it_is_refused(make_face: Make) -> None:
    face = make_face()
    face.start()
    assert face.is_running
    face.shutdown()
    assert not face.is_running
    for call in (face.stats, face.get_all_tasks, face.start):
        with pytest.raises(SchedulerStoppedError, match="shut down"):
            call()
    face.shutdown()
    face.stop()


def test_before_the_start_too(make_face: Make) -> None:
    face = make_face()
    assert (face.is_running, face.is_ready) == (False, False)
    face.shutdown()


def test_start_twice_is_once(make_face: Make) -> None:
    face = make_face()
    face.startup()
    node = threading.active_count()
    face.start()
    assert threading.active_count() == node
    assert (face.is_running, face.is_ready) == (True, True)


@pytest.mark.parametrize("face", [Quiv, AsyncQuiv])
def test_the_constructor_starts_nothing(face: Any) -> None:
    threads, open_before = threading.active_count(), sockets()
    found = face(redis_url="redis://127.0.0.1:1")
    assert (found.is_running, found.is_ready) == (False, False)
    assert found.pending_main_loop_work() == 0
    assert threading.active_count() == threads
    assert sockets() == open_before


def test_the_next_instance_goes_on(make: Make) -> None:
    first = make()
    first.start()
    first.add_task("beat", jobs.note, interval=0.1, task_id="beat")
    first.wait_for_task("beat", LIMIT_S)
    first.shutdown()
    count = len(jobs.calls)
    second = make(handlers=[jobs.note])
    second.start()
    eventually(lambda: len(jobs.calls) > count + 1, "the next runs")
