"""What becomes of running handlers when their worker ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

from quiv_dist.core import naming
from quiv_dist.models import StopReason
from tests.unit.execution_bench import Bench, reached, where
from tests.unit.loops import DEADLINE_S


async def test_close_hands_back_what_is_stuck_and_drops_its_late_end() -> None:
    bench = Bench(threads=1)
    started, release = threading.Event(), threading.Event()

    def stuck() -> None:
        started.set()
        release.wait(DEADLINE_S)

    cleaned_up = asyncio.Event()

    async def stuck_async() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()

    calls: list[int] = []
    threaded, on_loop = bench.start(stuck), bench.start(stuck_async)
    queued = bench.start(lambda: calls.append(1))
    await reached(started)
    bench.executors.close()
    for execution in (threaded, on_loop, queued):
        ended = await bench.end_of(execution)
        assert (ended.outcome, ended.error) == ("handback", "")
        assert execution.stop.reason is StopReason.SHUTDOWN
    await asyncio.wait_for(cleaned_up.wait(), DEADLINE_S)
    (thread,) = bench.executors._threads._threads
    release.set()
    await asyncio.to_thread(thread.join, DEADLINE_S)
    assert not thread.is_alive()
    # What the thread handed over came to the loop before the news of its end.
    assert not bench.executors._finished
    assert len(bench.ended) == 3
    assert not calls
    assert bench.executors.running() == 0


async def test_close_keeps_the_reason_a_handler_was_asked_with() -> None:
    bench = Bench()
    execution = bench.start(asyncio.Event().wait)
    await asyncio.sleep(0)
    execution.stop.set(StopReason.CANCEL)
    bench.executors.close()
    assert (await bench.end_of(execution)).outcome == "cancelled"


async def test_pool_threads_end_when_the_executors_are_closed() -> None:
    bench = Bench()
    await bench.run(where)
    threads = bench.executors._threads._threads
    bench.executors.close()
    for thread in threads:
        await asyncio.to_thread(thread.join, DEADLINE_S)
        assert not thread.is_alive()


STUCK = """
import asyncio, contextlib, logging, threading
from quiv_dist.core.codec import encode_arguments
from quiv_dist.core.spec import JobSpec
from quiv_dist.core.stop import StopEvent
from quiv_dist.worker.execution import Execution
from quiv_dist.worker.executors import Executors
from quiv_dist.worker.registry import HandlerRegistry

started = threading.Event()

def stuck():
    started.set()
    threading.Event().wait()

async def main():
    executors = Executors(
        loop=asyncio.get_running_loop(), threads=1, logger=logging.getLogger(),
        on_ended=lambda execution, ended: print(ended.outcome, flush=True),
        job_context=lambda job_id, stop: contextlib.nullcontext(),
    )
    handler = HandlerRegistry().add(stuck)
    executors.start(
        Execution("j", "t", handler, encode_arguments((), {}), JobSpec(), StopEvent(), print)
    )
    await asyncio.to_thread(started.wait)
    executors.close()

asyncio.run(main())
"""


def test_a_stuck_handler_does_not_keep_its_process_from_ending(tmp_path: Path) -> None:
    script = tmp_path / "stuck.py"
    script.write_text(STUCK)
    root = str(Path(naming.__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": root},
        timeout=DEADLINE_S,
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "handback\n"
