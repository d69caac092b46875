"""The processes of a measurement."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.meter import DIRECTORY, read_meters

_PATIENCE_S = 120.0
_PEERS = {
    "taskiq": [
        "taskiq", "worker", "benchmarks.subjects.taskiq_subject:broker", "--workers", "1",
        "--max-async-tasks", "{concurrency}", "--max-prefetch", "{concurrency}",
        "--log-level", "ERROR",
    ],
    "dramatiq": [
        "dramatiq", "benchmarks.subjects.dramatiq_subject", "--processes", "1",
        "--threads", "{concurrency}",
    ],
}  # fmt: skip


def command(subject: str, *words: str) -> list[str]:
    """Return the command line of a subject's own script."""
    return [sys.executable, "-m", f"benchmarks.subjects.{subject}_subject", *words]


def run(subject: str, url: str, *words: str, **extra: str) -> str:
    """Run a subject's script to its end; return what it printed."""
    done = subprocess.run(
        command(subject, *words), env=environment(url, **extra), check=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def environment(url: str, **extra: str) -> dict[str, str]:
    """Return the environment of a measured process."""
    return {**os.environ, "QUIV_BENCH_URL": url, **extra}


class Workers:
    """Worker processes of a subject, with a meter each."""

    def __init__(self, directory: Path, processes: list[subprocess.Popen[bytes]]) -> None:
        self.directory = directory
        self.processes = processes

    def wait_for(self, count: int) -> float:
        """Wait until ``count`` jobs were run; return jobs a second from the first to the last."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            total, first, last = read_meters(self.directory)
            if total >= count:
                return total / (last - first)
            if time.monotonic() > deadline:
                msg = f"only {total} of {count} jobs were run in {_PATIENCE_S:g} s"
                raise TimeoutError(msg)
            time.sleep(0.05)


@contextmanager
def workers(
    subject: str, url: str, *, processes: int = 1, concurrency: int = 100, **extra: str
) -> Iterator[Workers]:
    """Start worker processes; end them with SIGTERM."""
    with tempfile.TemporaryDirectory() as directory:
        extra = {DIRECTORY: directory, "QUIV_BENCH_CONCURRENCY": str(concurrency), **extra}
        line = command(subject, "work")
        if subject in _PEERS:
            words = [word.format(concurrency=concurrency) for word in _PEERS[subject]]
            line = [sys.executable, "-m", *words]
        started = [
            subprocess.Popen(
                line, env=environment(url, **extra), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )
            for _ in range(processes)
        ]  # fmt: skip
        try:
            yield Workers(Path(directory), started)
        finally:
            for process in started:
                os.killpg(process.pid, signal.SIGTERM)
            for process in started:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
