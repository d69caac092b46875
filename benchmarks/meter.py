"""Counting jobs the same way for every subject.

A worker process counts in memory and writes ``count first last`` (wall clock, seconds) to a file
of its own twenty times a second; the benchmark reads the files.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

DIRECTORY = "QUIV_BENCH_METER"
_WRITE_S = 0.05


class Meter:
    """Counts jobs of this process."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0.0
        self._lock = threading.Lock()
        self._path = Path(os.environ[DIRECTORY]) / f"{os.getpid()}.meter"
        threading.Thread(target=self._write, daemon=True).start()

    def hit(self) -> None:
        """Count one job, on a single-threaded worker."""
        if not self.count:
            self.first = time.time()
        self.count += 1

    def hit_locked(self) -> None:
        """Count one job, from any thread."""
        with self._lock:
            self.hit()

    def _write(self) -> None:
        written = 0
        while True:
            time.sleep(_WRITE_S)
            if self.count != written:
                written, now = self.count, time.time()
                part = self._path.with_suffix(".part")
                part.write_text(f"{written} {self.first} {now}")
                part.replace(self._path)


def read_meters(directory: Path) -> tuple[int, float, float]:
    """Return the jobs counted by all processes, and when the first and the last was."""
    total, first, last = 0, float("inf"), 0.0
    for path in directory.glob("*.meter"):
        count, begun, ended = path.read_text().split()
        total += int(count)
        first, last = min(first, float(begun)), max(last, float(ended))
    return total, first, last
