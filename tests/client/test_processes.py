"""Other processes: children that fork or spawn, sharing one schedule and its events."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quiv_dist import Event, Quiv
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard

ROOT = Path(__file__).parents[2]

PEER = """
import asyncio, json, sys, threading
from quiv_dist import Event, Quiv
from tests.client import jobs

url, namespace, mode = sys.argv[1:]
quiv = Quiv(redis_url=url, namespace=namespace, handlers=[jobs.note])
done = threading.Semaphore(0)

def sync(event, *payload):
    print(json.dumps(["sync", event.value, threading.current_thread().name]), flush=True)
    done.release()

async def asynchronous(event, *payload):
    await asyncio.sleep(0)
    print(json.dumps(["async", event.value, threading.current_thread().name]), flush=True)
    done.release()

def listen():
    for kind in (Event.TASK_ADDED, Event.JOB_COMPLETED):
        quiv.add_listener(kind, sync)
        quiv.add_listener(kind, asynchronous)
    quiv.start()
    print(json.dumps(["ready"]), flush=True)

def wait():
    for _ in range(4):
        done.acquire(timeout=20)

async def main():
    listen()
    await asyncio.to_thread(wait)

if mode == "loop":
    threading.current_thread().name = "app-loop"
    asyncio.run(main())
else:
    listen()
    wait()
quiv.shutdown()
"""


@pytest.mark.parametrize(("mode", "thread"), [("loop", "app-loop"), ("plain", "quiv-listeners")])
def test_the_dispatch_table_holds_in_another_process(
    make: Make, redis_url: str, namespace: str, mode: str, thread: str
) -> None:
    emitting = make()
    with subprocess.Popen(
        [sys.executable, "-c", PEER, redis_url, namespace, mode],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    ) as peer:  # fmt: skip
        assert peer.stdout is not None
        assert json.loads(peer.stdout.readline()) == ["ready"]
        emitting.add_task("shared", jobs.note, run_once=True)
        heard = [json.loads(line) for line in peer.stdout]
        assert peer.wait(LIMIT_S) == 0
    # Its worker ran what was added here; each listener heard each event once, where it should.
    assert sorted(heard) == sorted(
        [kind, event, thread]
        for kind in ("sync", "async")
        for event in ("task_added", "job_completed")
    )


def in_a_fork(act: Callable[[], Any]) -> Any:
    """Run ``act`` in a forked child; return what it returned, as JSON carries it."""
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads: that is the case tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            text = json.dumps(["returned", act()])
        except BaseException:
            text = json.dumps(["raised", traceback.format_exc()])
        os.write(writable, text.encode())
        # Nothing of the parent's, its fixtures least of all, may run here.
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as answer:
        how, found = json.loads(answer.read() or '["raised", "no answer"]')
    os.waitpid(pid, 0)
    assert how == "returned", found
    return found


def test_a_forked_child_is_a_node_of_its_own(make: Make) -> None:
    quiv: Quiv = make()
    quiv.start()
    quiv.add_task("of the parent", jobs.note, interval=3600, delay=3600)

    def child() -> Any:
        before = (quiv.is_running, quiv.is_ready)
        quiv.start()
        heard = Heard()
        quiv.add_listener(Event.JOB_COMPLETED, heard)
        quiv.add_task("of the child", jobs.note, run_once=True)
        heard.wait_for(Event.JOB_COMPLETED)
        names = sorted(task.task_name for task in quiv.get_all_tasks())
        node = quiv.asynchronous.engine.record.id
        quiv.shutdown(5)
        return [before, names, node, heard.calls[0].thread]

    before, names, node, thread = in_a_fork(child)
    assert before == [False, False]
    assert names == ["of the parent"]
    assert thread == "quiv-listeners"
    assert node != quiv.asynchronous.engine.record.id
    # The parent is unharmed.
    assert (quiv.is_running, quiv.is_ready) == (True, True)
    task_id = quiv.add_task("again", jobs.note, run_once=True)
    assert quiv.wait_for_task(task_id, LIMIT_S).status == "completed"


def test_a_child_goes_on_counting_where_its_parent_was(make: Make) -> None:
    quiv, replica = make(), make()
    first = quiv.add_task("a", jobs.note, interval=3600, delay=3600)
    second = in_a_fork(lambda: quiv.add_task("a", jobs.note, interval=3600, delay=3600))
    assert second != first
    ids = [replica.add_task("a", jobs.note, interval=3600, delay=3600) for _ in range(2)]
    assert ids == [first, second]


async def test_a_loop_of_the_parent_is_not_the_childs(make: Make) -> None:
    quiv: Quiv = make()
    quiv.start()
    assert quiv.asynchronous.main_loop.resolve() is asyncio.get_running_loop()

    def child() -> list[str]:
        heard = Heard()
        quiv.add_listener(Event.TASK_ADDED, heard)
        quiv.add_task("a", jobs.note, run_once=True, delay=60)
        # Without a loop it was heard before the call returned.
        return [kind.value for kind in heard.kinds]

    assert in_a_fork(child) == ["task_added"]
