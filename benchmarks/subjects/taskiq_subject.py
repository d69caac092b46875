"""taskiq on a Redis stream, without results: the fastest way it has of not losing jobs."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from taskiq_redis import RedisStreamBroker

from benchmarks.meter import DIRECTORY, Meter

broker = RedisStreamBroker(os.environ.get("QUIV_BENCH_URL", "redis://127.0.0.1"))
_meter = Meter() if DIRECTORY in os.environ else None


@broker.task
async def noop(sent_s: float) -> None:
    """Do nothing."""
    if _meter is not None:
        _meter.hit()
    if sent_s and "QUIV_BENCH_LATENCY" in os.environ:
        with open(os.environ["QUIV_BENCH_LATENCY"], "a") as file:  # noqa: ASYNC230, PTH123
            file.write(f"{(time.time() - sent_s) * 1000}\n")


async def enqueue(count: int) -> float:
    """Send ``count`` jobs, 100 at once; return jobs a second."""
    await broker.startup()
    await noop.kiq(0.0)
    begun = time.perf_counter()
    for _ in range(0, count - 1, 100):
        await asyncio.gather(*(noop.kiq(0.0) for _ in range(100)))
    rate = (count - 1) / (time.perf_counter() - begun)
    await broker.shutdown()
    return rate


async def idle(samples: int) -> None:
    """Send single jobs; the worker writes their latencies."""
    await broker.startup()
    for _ in range(samples):
        await noop.kiq(time.time())
        await asyncio.sleep(0.02)
    await broker.shutdown()


if __name__ == "__main__":
    from benchmarks.subjects import taskiq_subject  # noqa: PLW0406

    if sys.argv[1] == "enqueue":
        print(asyncio.run(taskiq_subject.enqueue(int(sys.argv[2]))))
    else:
        asyncio.run(taskiq_subject.idle(int(sys.argv[2])))
