"""``quiv jobs``: look at jobs and cancel them."""

from __future__ import annotations

from typing import Any

import click

from quiv_dist.cli import options, output
from quiv_dist.cli.connection import target
from quiv_dist.cli.errors import Command, ExitCode, Failure
from quiv_dist.models import Job, JobStatus


@click.group(context_settings=options.SETTINGS)
def jobs() -> None:
    """Look at jobs, and cancel them."""


@jobs.command("list", cls=Command)
@click.option(
    "-s", "--status", type=click.Choice([one.value for one in JobStatus]), help="Only these."
)
@click.option("-t", "--task", "task_id", help="Only jobs of this task.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most."
)
@options.as_json
@options.inspection
def list_(*, status: str | None, task_id: str | None, limit: int, as_json: bool, **at: Any) -> None:
    """List jobs, the newest first."""
    with target(**at) as found, found.quiv() as quiv:
        listed = quiv.get_all_jobs(status=status, task_id=task_id, limit=limit)
    if as_json:
        for job in listed:
            output.json_line(job)
        return
    output.table(
        ("ID", "TASK", "STATUS", "STARTED", "TOOK", "ATTEMPT", "QUEUE", "ERROR"),
        (
            (job.id, job.task_name, _status(job), output.moment_and_distance(job.started_at),
             _took(job), str(job.attempt), _queue(job), job.error_message or "")
            for job in listed
        ),
        empty="no jobs",
    )  # fmt: skip


@jobs.command(cls=Command)
@click.argument("job_id")
@options.as_json
@options.inspection
def show(job_id: str, *, as_json: bool, **at: Any) -> None:
    """Show a job."""
    with target(**at) as found, found.quiv() as quiv:
        job = quiv.get_job(job_id)
    if as_json:
        output.json_line(job)
        return
    output.details(
        [
            ("id", job.id),
            ("task", f"{job.task_name} ({job.task_id})" if job.task_id else job.task_name),
            ("status", _status(job)),
            ("error", job.error_message or ""),
            ("created", output.moment_and_distance(job.created_at)),
            ("started", output.moment_and_distance(job.started_at) if job.delivery else ""),
            ("ended", output.moment_and_distance(job.ended_at)),
            ("took", _took(job)),
            ("for tick", output.moment(job.scheduled_for)),
            ("run", f"{job.run_id} ({job.run_kind})"),
            ("attempt", str(job.attempt)),
            ("delivery", f"{job.delivery}, {job.crashes} ended with the worker's death"),
            ("node", job.node_id or ""),
            ("queue", _queue(job)),
            ("handler", job.handler),
        ]
    )


@jobs.command(cls=Command)
@click.argument("job_id")
@options.inspection
def cancel(job_id: str, **at: Any) -> None:
    """Cancel a job: one that waits at once, a running one is asked to stop."""
    with target(**at) as found, found.quiv() as quiv:
        if quiv.cancel_job(job_id):
            click.echo(f"job {job_id} is asked to stop")
            return
        job = quiv.get_job(job_id)
    msg = f"job {job_id} has ended already: {job.status}"
    raise Failure(msg, ExitCode.UNEXPECTED)


def _status(job: Job) -> str:
    return f"{job.status} (dead)" if job.dead else job.status


def _took(job: Job) -> str:
    return "" if job.duration_seconds is None else output.span(job.duration_seconds)


def _queue(job: Job) -> str:
    return job.queue if job.priority == "normal" else f"{job.queue}:{job.priority}"
