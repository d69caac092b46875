"""Measurements of the scheduler: N tasks due each second, all at the same instant."""

from __future__ import annotations

import asyncio
import statistics
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psutil

from benchmarks.processes import workers
from benchmarks.server import private_server
from benchmarks.subjects.quiv_subject import latency
from quiv_dist import AsyncQuiv
from quiv_dist.core.wire import to_ms
from quiv_dist.store.namespace import Store

_ADD_AT_ONCE = 50


class Ticks(NamedTuple):
    """What became of the ticks. Lateness is from the nominal time to the enqueueing, ms."""

    due: int
    fired: int
    late_p50_ms: float
    late_p99_ms: float
    cpu_us_per_tick: float


def measure(tasks: int, seconds: int) -> Ticks:
    """Fire ``tasks`` ticks each second, drained by one worker, for ``seconds``."""
    with private_server() as url:
        return asyncio.run(_measure(url, tasks, seconds))


async def _measure(url: str, tasks: int, seconds: int) -> Ticks:
    quiv = AsyncQuiv(redis_url=url, namespace="bench", roles={"listener"})
    # Long enough to add them all; whole, so that all are due at the same instant.
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5 + tasks // 500)
    for begin in range(0, tasks, _ADD_AT_ONCE):
        count = min(_ADD_AT_ONCE, tasks - begin)
        await asyncio.gather(
            *(
                quiv.add_task(f"t{begin + i}", latency, interval=1, run_at=first, args=(0.0,))
                for i in range(count)
            )
        )
    with (
        workers("quiv", url, concurrency=1000),
        workers("quiv", url, QUIV_BENCH_ROLES="scheduler") as schedulers,
    ):
        process = psutil.Process(schedulers.processes[0].pid)
        await asyncio.sleep((first - datetime.now(UTC)).total_seconds() - 0.5)
        before = process.cpu_times()
        await asyncio.sleep(seconds)
        after = process.cpu_times()
        last = first + timedelta(seconds=seconds - 1)
        lateness = await _lateness(url, to_ms(first), to_ms(last))
    await quiv.shutdown(1.0)
    cpu_s = after.user + after.system - before.user - before.system
    due = tasks * seconds
    cuts = statistics.quantiles(lateness, n=100) if len(lateness) > 1 else [float("nan")] * 99
    return Ticks(due, len(lateness), cuts[49], cuts[98], cpu_s / due * 1e6)


async def _lateness(url: str, first_ms: int, last_ms: int) -> list[int]:
    """Return the lateness of every tick between two nominal times that became a job."""
    store = Store(url, "bench")
    rows = await store.partition().read_jobs(await store.reads().job_ids(newest_first=False))
    await store.close()
    found = (row.wire for row in rows if row is not None)
    return [
        job.created_at_ms - job.scheduled_for_ms
        for job in found
        if job.scheduled_for_ms is not None and first_ms <= job.scheduled_for_ms <= last_ms
    ]
