"""``python -m benchmarks``: measure, and print each figure beside its target.

Absolute figures are this machine's at this moment; the ratios to the peers of the same run are
what to quote. Targets are stated with the benchmark, never asserted.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import click

from benchmarks import jobs, ticks

PEERS = ("taskiq", "dramatiq")


class Report:
    """Prints one line a figure."""

    def __init__(self) -> None:
        self.missed = 0

    def line(self, what: str, figure: str, target: str, met: bool | None) -> None:
        """Print a figure and whether its target is met (``None``: it has none)."""
        word = {True: "met", False: "NOT MET", None: ""}[met]
        self.missed += met is False
        click.echo(f"{what:<46} {figure:<34} {target:<26} {word}")


def _median(runs: int, measure: Callable[[], tuple[float, ...]]) -> tuple[float, ...]:
    """Return the medians of several runs, figure by figure."""
    found = [measure() for _ in range(runs)]
    return tuple(statistics.median(column) for column in zip(*found, strict=True))


def _drain(report: Report, count: int, runs: int) -> None:
    few = max(count // 4, 1000)
    peers = {peer: _median(runs, partial(jobs.submit_and_drain, peer, few)) for peer in PEERS}
    for peer, (submitted, drained) in peers.items():
        report.line(f"{peer}: drain, 1 process", f"{drained:,.0f} jobs/s", "", None)
        report.line(f"{peer}: enqueue, 1 process", f"{submitted:,.0f} jobs/s", "", None)
    best_drain = max(drained for _, drained in peers.values())
    best_submit = max(submitted for submitted, _ in peers.values())
    submitted, drained = _median(runs, lambda: jobs.submit_and_drain("quiv", count))
    _ratio(report, "drain, async no-op, 1 process, concurrency 100", drained, best_drain, 5)
    _ratio(report, "submit_many, 1 process", submitted, best_submit, 4)
    _, threads = _median(
        runs, lambda: jobs.submit_and_drain("quiv", count, QUIV_BENCH_HANDLERS="sync")
    )
    _ratio(report, "drain, sync no-op in threads, 1 process", threads, best_drain, 3)
    _, two = _median(runs, lambda: jobs.submit_and_drain("quiv", count * 2, processes=2))
    met = two >= 1.2 * drained
    report.line(
        "drain, two worker processes", f"{two:,.0f} jobs/s, {two / drained:.2f} x one",
        ">= 1.2 x one", met,
    )  # fmt: skip


def _ratio(report: Report, what: str, figure: float, best: float, times: int) -> None:
    report.line(
        what, f"{figure:,.0f} jobs/s, {figure / best:.1f} x best peer", f">= {times} x best peer",
        figure >= times * best,
    )  # fmt: skip


def _latency(report: Report, samples: int) -> None:
    peers = {peer: jobs.idle_latency(peer, samples) for peer in PEERS}
    for peer, (p50, p99) in peers.items():
        report.line(f"{peer}: idle latency", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms", "", None)
    best = min(p50 for p50, _ in peers.values())
    p50, p99 = jobs.idle_latency("quiv", samples)
    report.line(
        "idle latency, submit to start", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms",
        f"p50 <= {best:.2f}, p99 <= 2 x p50", p50 <= best and p99 <= 2 * p50,
    )  # fmt: skip


def _ticks(report: Report, tasks: int, seconds: int, p99_ms: int) -> None:
    found = ticks.measure(tasks, seconds)
    report.line(
        f"{tasks:,} due each second, lateness",
        f"p50 {found.late_p50_ms:.0f} ms, p99 {found.late_p99_ms:.0f} ms",
        f"p99 <= {p99_ms} ms", found.late_p99_ms <= p99_ms,
    )  # fmt: skip
    report.line(
        f"{tasks:,} due each second, fired", f"{found.fired:,} of {found.due:,}", "all",
        found.fired == found.due,
    )  # fmt: skip
    report.line(
        f"{tasks:,} due each second, scheduler CPU", f"{found.cpu_us_per_tick:.1f} µs a tick",
        "<= 25 µs", found.cpu_us_per_tick <= 25,
    )  # fmt: skip


@click.command()
@click.option("--jobs", "count", default=20_000, show_default=True, help="Jobs a drain.")
@click.option("--runs", default=3, show_default=True, help="Runs of each drain; the median counts.")
@click.option("--samples", default=300, show_default=True, help="Single jobs of the latency.")
@click.option("--seconds", default=10, show_default=True, help="Seconds of ticks.")
@click.option(
    "--only",
    type=click.Choice(["drain", "latency", "ticks"]),
    multiple=True,
    help="Measure only this; may be repeated.",
)
def main(count: int, runs: int, samples: int, seconds: int, only: tuple[str, ...]) -> None:
    """Measure quiv-dist and its peers in one run."""
    report = Report()
    wanted = only or ("drain", "latency", "ticks")
    if "drain" in wanted:
        _drain(report, count, runs)
    if "latency" in wanted:
        _latency(report, samples)
    if "ticks" in wanted:
        _ticks(report, 1_000, seconds, 25)
        _ticks(report, 10_000, seconds, 200)
    click.echo(f"{report.missed} targets not met" if report.missed else "all targets met")


if __name__ == "__main__":
    main()
