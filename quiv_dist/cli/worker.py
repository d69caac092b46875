"""``quiv-worker``: runs the jobs whose handlers an application has."""

from __future__ import annotations

import logging
from typing import Any

import click

from quiv_dist.cli import options, process
from quiv_dist.cli.errors import Command
from quiv_dist.client import AsyncQuiv
from quiv_dist.worker.worker import WorkerOptions

_LOG = logging.getLogger("Quiv")


@click.command(cls=Command, context_settings=options.SETTINGS)
@click.argument("app", envvar="QUIV_APP")
@options.worker
@options.option("--burst", is_flag=True, help="End with exit code 0 when the queues are empty.")
@options.process
@options.supervised
def main(
    app: str,
    *,
    queues: tuple[str, ...],
    concurrency: int,
    threads: int | None,
    burst: bool,
    **given: Any,
) -> None:
    """Run jobs of the handlers of APP (module or module:attr, or QUIV_APP).

    Those are the decorated functions, those of tasks added while it is imported, and those of
    Quiv(handlers=[...]). Jobs of other handlers are left to other workers.
    """

    def before(quiv: AsyncQuiv) -> None:
        used = WorkerOptions(queues, concurrency, threads or quiv.settings.pool_size)
        quiv.configure(worker=used)
        log_handlers(quiv, used)

    changes = {"roles": frozenset({"worker", "listener"}), "declared": "leave"}
    role = process.Role("worker", changes, before=before, drains=burst)
    process.run(role, app, process.ProcessOptions(**given))


def log_handlers(quiv: AsyncQuiv, used: WorkerOptions) -> None:
    """Log what this worker serves: it is the first thing to look at when a job waits."""
    names = quiv.handlers.names()
    if not names:
        _LOG.warning("%s has no handlers: this worker has nothing to run", quiv.settings.app)
        return
    _LOG.info(
        "serves queues %s with %d coroutines and %d threads at once, and these %d handlers:",
        ", ".join(used.queues), used.concurrency, used.threads, len(names),
    )  # fmt: skip
    for name in names:
        _LOG.info("  %s", name)


if __name__ == "__main__":
    main(prog_name="quiv-worker")
