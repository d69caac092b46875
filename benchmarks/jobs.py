"""Measurements of jobs: bulk submit, drain, and latency at idle."""

from __future__ import annotations

import ast
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.processes import run, workers
from benchmarks.server import private_server


def submit_and_drain(
    subject: str, count: int, *, processes: int = 1, concurrency: int = 100, **extra: str
) -> tuple[float, float]:
    """Return jobs a second enqueued by one process, and run by ``processes`` workers."""
    with private_server() as url:
        submitted = float(run(subject, url, "enqueue", str(count), **extra))
        with workers(subject, url, processes=processes, concurrency=concurrency, **extra) as fleet:
            return submitted, fleet.wait_for(count)


def idle_latency(subject: str, samples: int) -> tuple[float, float]:
    """Return p50 and p99 of the time from sending a single job to its start, ms."""
    with (
        private_server() as url,
        tempfile.NamedTemporaryFile("r") as file,
        workers(subject, url, QUIV_BENCH_LATENCY=file.name) as fleet,
    ):
        run(subject, url, "enqueue", "101")
        fleet.wait_for(101)
        printed = run(subject, url, "idle", str(samples))
        found = ast.literal_eval(printed) if printed else _read(Path(file.name), samples)
    cuts = statistics.quantiles(found, n=100)
    return cuts[49], cuts[98]


def _read(path: Path, samples: int) -> list[float]:
    for _ in range(100):
        lines = path.read_text().split()
        if len(lines) >= samples:
            return [float(line) for line in lines]
        time.sleep(0.05)
    msg = "the worker wrote fewer latencies than jobs were sent"
    raise TimeoutError(msg)
