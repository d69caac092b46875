"""``quiv tasks``: look at schedules and act on them."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from quiv_dist.cli import options, output
from quiv_dist.cli.connection import target
from quiv_dist.cli.errors import Command
from quiv_dist.core.wire import to_datetime
from quiv_dist.models import Job, Task, TaskStatus, Tick
from quiv_dist.store.namespace import Store

_MOST_TICKS = 10
_MOST_JOBS = 5


@click.group(context_settings=options.SETTINGS)
def tasks() -> None:
    """Look at tasks, and pause, resume, run or remove them."""


@tasks.command("list", cls=Command)
@click.option(
    "-s", "--status", type=click.Choice([one.value for one in TaskStatus]), help="Only these."
)
@click.option("--name", "task_name", help="Only tasks of this name.")
@click.option("--all", "include_run_once", is_flag=True, help="Also those that run once.")
@options.as_json
@options.inspection
def list_(
    *, status: str | None, task_name: str | None, include_run_once: bool, as_json: bool, **at: Any
) -> None:
    """List tasks by their next run."""
    with target(**at) as found, found.quiv() as quiv:
        listed = quiv.get_all_tasks(
            include_run_once=include_run_once, status=status, task_name=task_name
        )
    if as_json:
        for task in listed:
            output.json_line(task)
        return
    output.table(
        ("ID", "NAME", "STATUS", "SCHEDULE", "NEXT RUN", "QUEUE", "HANDLER"),
        (
            (task.id, task.task_name, _status(task), _schedule(task), _next_run(task),
             _queue(task), task.handler)
            for task in listed
        ),
        empty="no tasks",
    )  # fmt: skip


@tasks.command(cls=Command)
@click.argument("task_id")
@options.as_json
@options.inspection
def show(task_id: str, *, as_json: bool, **at: Any) -> None:
    """Show a task, its newest jobs, and what became of its newest ticks."""
    with target(**at) as found:
        with found.quiv() as quiv:
            task = quiv.get_task(task_id)
            newest = quiv.get_all_jobs(task_id=task_id, limit=_MOST_JOBS)
        ticks = found.read(lambda store: _ticks(store, task_id))
    if as_json:
        fields = {name: getattr(task, name) for name in task.__struct_fields__}
        output.json_line({**fields, "ticks": ticks, "jobs": newest})
        return
    output.details(_details(task))
    if newest:
        click.echo()
        output.table(("NEWEST JOBS", "STATUS", "STARTED", "ERROR"), map(_job, newest), empty="")
    if ticks:
        click.echo()
        output.table(("NEWEST TICKS", "COUNT", "FIRST", "LAST", "WHY"), map(_tick, ticks), empty="")


@tasks.command(cls=Command)
@click.argument("task_id")
@click.option("--reason", help="Why; it is kept and shown.")
@options.inspection
def pause(task_id: str, *, reason: str | None, **at: Any) -> None:
    """Pause a task: it fires no more; running jobs finish."""
    with target(**at) as found, found.quiv() as quiv:
        quiv.pause_task(task_id, reason=reason)
    click.echo(f"task {task_id} is paused")


@tasks.command(cls=Command)
@click.argument("task_id")
@click.option(
    "--delay", type=click.FloatRange(min=0), metavar="SECONDS", help="Until the next run."
)
@options.inspection
def resume(task_id: str, *, delay: float | None, **at: Any) -> None:
    """Resume a task: an interval runs at once, a cron at its next time, unless delayed."""
    with target(**at) as found, found.quiv() as quiv:
        quiv.resume_task(task_id, delay=delay)
        task = quiv.get_task(task_id)
    click.echo(
        f"task {task_id} is resumed: next run {output.moment_and_distance(task.next_run_at)}"
    )


@tasks.command(cls=Command)
@click.argument("task_id")
@options.inspection
def run(task_id: str, **at: Any) -> None:
    """Run a task now: an interval is brought forward, a cron gets an extra run."""
    with target(**at) as found, found.quiv() as quiv:
        quiv.run_task_immediately(task_id)
    click.echo(f"task {task_id} was enqueued")


@tasks.command(cls=Command)
@click.argument("task_id")
@options.inspection
def remove(task_id: str, **at: Any) -> None:
    """Remove a task: queued runs are cancelled, running ones are asked to stop."""
    with target(**at) as found, found.quiv() as quiv:
        quiv.remove_task(task_id)
    click.echo(f"task {task_id} was removed")


def _status(task: Task) -> str:
    if task.retry_attempt:
        return f"{task.status} (retry {task.retry_attempt})"
    return task.status


def _schedule(task: Task) -> str:
    if task.cron:
        return f"{task.cron} {task.cron_timezone}"
    if task.interval_seconds is None:
        return "once"
    after = "" if task.fixed_interval else " after its end"
    return f"every {output.span(task.interval_seconds)}{after}"


def _next_run(task: Task) -> str:
    return "" if task.status == TaskStatus.PAUSED else output.moment_and_distance(task.next_run_at)


def _queue(task: Task) -> str:
    return task.queue if task.priority == "normal" else f"{task.queue}:{task.priority}"


def _details(task: Task) -> list[tuple[str, str]]:
    retries = ""
    if task.max_retries:
        retries = f"{task.max_retries}, first after {output.span(task.retry_backoff_seconds)}"
    return [
        ("id", task.id),
        ("name", task.task_name),
        ("status", _status(task)),
        ("pause reason", task.pause_reason or ""),
        ("schedule", _schedule(task)),
        ("jitter", output.span(task.jitter_seconds) if task.jitter_seconds else ""),
        ("next run", _next_run(task)),
        ("handler", task.handler),
        ("args", _shown(task.args)),
        ("kwargs", _shown(task.kwargs)),
        ("queue", _queue(task)),
        ("timeout", output.span(task.timeout_seconds) if task.timeout_seconds else ""),
        ("retries", retries),
        ("max crashes", str(task.max_crashes)),
        ("owner", task.owner or ""),
        ("pinned to node", task.pinned_to or ""),
        ("incarnation", task.incarnation),
        ("revision", str(task.revision)),
    ]


def _shown(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=repr).decode() if value else ""


def _job(job: Job) -> tuple[str, ...]:
    return job.id, job.status, output.moment_and_distance(job.started_at), job.error_message or ""


def _tick(tick: Tick) -> tuple[str, ...]:
    return (
        tick.outcome, str(tick.count), output.moment(tick.first_at), output.moment(tick.last_at),
        tick.reason or "",
    )  # fmt: skip


async def _ticks(store: Store, task_id: str) -> list[Tick]:
    """Return the newest entries of a task's tick journal."""
    reads = store.reads(store.partition_of_task(task_id))
    found = []
    for entry in (await reads.journal(task_id))[:_MOST_TICKS]:
        outcome, first, last, count, reason = entry.split("|", 4)
        found.append(
            Tick(
                task_id=task_id,
                outcome=outcome,
                reason=reason or None,
                first_at=to_datetime(int(first)),
                last_at=to_datetime(int(last)),
                count=int(count),
            )
        )
    return found
