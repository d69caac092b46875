"""dramatiq on Redis, without results, its handlers in threads."""

from __future__ import annotations

import os
import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.meter import DIRECTORY, Meter

broker = RedisBroker(url=os.environ.get("QUIV_BENCH_URL", "redis://127.0.0.1"))
dramatiq.set_broker(broker)
_meter = Meter() if DIRECTORY in os.environ else None


@dramatiq.actor
def noop(sent_s: float) -> None:
    """Do nothing."""
    if _meter is not None:
        _meter.hit_locked()
    if sent_s and "QUIV_BENCH_LATENCY" in os.environ:
        with open(os.environ["QUIV_BENCH_LATENCY"], "a") as file:  # noqa: PTH123
            file.write(f"{(time.time() - sent_s) * 1000}\n")


def enqueue(count: int) -> float:
    """Send ``count`` jobs; return jobs a second."""
    noop.send(0.0)
    begun = time.perf_counter()
    for _ in range(count - 1):
        noop.send(0.0)
    return (count - 1) / (time.perf_counter() - begun)


def idle(samples: int) -> None:
    """Send single jobs; the worker writes their latencies."""
    for _ in range(samples):
        noop.send(time.time())
        time.sleep(0.02)


if __name__ == "__main__":
    from benchmarks.subjects import dramatiq_subject  # noqa: PLW0406

    if sys.argv[1] == "enqueue":
        print(dramatiq_subject.enqueue(int(sys.argv[2])))
    else:
        dramatiq_subject.idle(int(sys.argv[2]))
