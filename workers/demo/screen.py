"""What the demonstration shows: a story with times, one line that moves, and a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from workers.demo.audit import Report

_SPARSE_S = 5.0


class Screen:
    """Writes to standard output; without a terminal the moving line becomes a sparse log."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._began_s = time.monotonic()
        self._drawn = ""
        self._last_s = 0.0

    def tell(self, text: str, *, bold: bool = False) -> None:
        """Add a line to the story."""
        self._erase()
        marked = f"\033[1m{text}\033[0m" if bold and self._terminal else text
        print(f"{self._elapsed_s():6.1f} s  {marked}", flush=True)

    def status(self, text: str) -> None:
        """Replace the moving line."""
        line = f"{self._elapsed_s():6.1f} s  {text}"
        if self._terminal:
            self._erase()
            print(f"\033[2m{line}\033[0m", end="", flush=True)
            self._drawn = line
        elif self._elapsed_s() - self._last_s >= _SPARSE_S:
            self._last_s = self._elapsed_s()
            print(line, flush=True)

    def close(self) -> None:
        """Leave the cursor at the start of a line."""
        self._erase()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _erase(self) -> None:
        if self._drawn:
            print("\r\033[K", end="", flush=True)
            self._drawn = ""


@contextmanager
def screen() -> Iterator[Screen]:
    """Open the screen, and leave the terminal as it was."""
    opened = Screen()
    try:
        yield opened
    finally:
        opened.close()


def table(report: Report, drains: dict[str, str]) -> str:
    """Return the figures, one a line, with what they mean."""
    p50, p99 = report.lateness(50), report.lateness(99)
    rows = [
        ("ticks due", report.due, "computed here from the triggers"),
        ("  enqueued", report.enqueued, "became a job"),
        ("  skipped", report.skipped, "a run of the task was live (overlap=skip)"),
        ("  coalesced", report.coalesced, "interval slots that passed while nobody led"),
        ("  lost", len(report.lost), _names(report.lost)),
        ("  doubled", len(report.doubled), _names(report.doubled)),
        ("runs", report.run, f"{len(report.unfinished)} of them without an outcome"),
        ("failed attempts", report.failed_attempts, f"{report.retries} tried again"),
        ("failed runs", report.failed_runs, "after their last retry"),
        ("handler starts", report.starts, "written down by the handlers, outside Redis"),
        ("  beyond the first", report.extra_starts, "at least once; the jobs delivered again:"),
        *(("", f"…{job_id[-6:]}", reason) for job_id, reason in report.restarted.items()),
        ("lateness p50", f"{p50:.0f} ms", "tick to job, by the server's clock"),
        ("lateness p99", f"{p99:.0f} ms", "the gaps below included"),
    ]
    rows += [
        ("no leader", "for ever" if gap.seconds is None else f"{gap.seconds:.2f} s", gap.cause)
        for gap in report.gaps
    ]
    clean = [name for name, how in drains.items() if how == "exit 0"]
    others = [f"{name} {how}" for name, how in drains.items() if name not in clean]
    rows.append(("drained on SIGTERM", len(clean), f"of {len(drains)} {', '.join(others)}"))
    return "\n".join(f"  {name:<18} {value!s:>9}  {note}".rstrip() for name, value, note in rows)


def _names(ticks: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} at {at_ms}" for name, at_ms in ticks[:5])
