"""quiv-dist with all its guarantees and events on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from benchmarks.meter import DIRECTORY, Meter
from quiv_dist import AsyncQuiv

quiv = AsyncQuiv(
    redis_url=os.environ.get("QUIV_BENCH_URL"),
    namespace="bench",
    roles=set(os.environ.get("QUIV_BENCH_ROLES", "worker").split(",")),
)
_meter = Meter() if DIRECTORY in os.environ else None


@quiv.handler()
async def noop(sent_s: float) -> None:  # noqa: ARG001 - what travels is measured
    """Do nothing on the worker's loop."""
    if _meter is not None:
        _meter.hit()


if "sync" in os.environ.get("QUIV_BENCH_HANDLERS", ""):

    @quiv.handler()
    def noop_sync(sent_s: float) -> None:  # noqa: ARG001 - what travels is measured
        """Do nothing in a thread."""
        if _meter is not None:
            _meter.hit_locked()


async def latency(sent_s: float) -> float:
    """Return how long it took to get here, seconds."""
    return time.time() - sent_s


timed = quiv.handler()(latency)
# The name must lead to the decorated handler.
latency = timed


async def work() -> None:
    """Run this instance's roles until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    quiv.configure(pool_size=int(os.environ.get("QUIV_BENCH_CONCURRENCY", "100")))
    await quiv.start()
    print("ready", flush=True)
    await stopped.wait()
    await quiv.shutdown(1.0)


async def enqueue(count: int) -> float:
    """Submit ``count`` jobs; return jobs a second."""
    handler = noop_sync if "sync" in os.environ.get("QUIV_BENCH_HANDLERS", "") else noop
    await handler.submit_many_async([(0.0,)])
    calls = [(0.0,)] * (count - 1)
    begun = time.perf_counter()
    await handler.submit_many_async(calls)
    return (count - 1) / (time.perf_counter() - begun)


async def idle(samples: int) -> list[float]:
    """Return latencies from submit to start of single jobs on an idle fleet, ms."""
    found = []
    for _ in range(samples):
        run = await timed.submit_async(time.time())
        found.append(await run * 1000)
        await asyncio.sleep(0.01)
    return found


async def main() -> None:
    """Do what the command line says."""
    command = sys.argv[1]
    if command == "work":
        await work()
        return
    print(await enqueue(int(sys.argv[2])) if command == "enqueue" else await idle(int(sys.argv[2])))
    await quiv.shutdown(1.0)


if __name__ == "__main__":
    # Under its importable name, so that handlers are found by the same name everywhere.
    from benchmarks.subjects import quiv_subject  # noqa: PLW0406

    asyncio.run(quiv_subject.main())
