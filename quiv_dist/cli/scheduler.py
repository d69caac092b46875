"""``quiv-scheduler``: a candidate for the leadership."""

from __future__ import annotations

import logging
from typing import Any

import click

from quiv_dist.cli import options, process
from quiv_dist.cli.declarations import Difference, differences
from quiv_dist.cli.errors import Command
from quiv_dist.client import AsyncQuiv

_LOG = logging.getLogger("Quiv")


@click.command(cls=Command, context_settings=options.SETTINGS)
@click.argument("app", required=False, envvar="QUIV_APP")
@options.option("--apply", "apply", is_flag=True, help="Change stored tasks to what APP declares.")
@options.process
@options.supervised
def main(app: str | None, *, apply: bool, **given: Any) -> None:
    """Turn due ticks into jobs: one scheduler of a namespace leads, the others stand by.

    With APP (module or module:attr, or QUIV_APP), the tasks that it declares and that are not
    stored yet are added, and what differs between the two is logged.
    """
    changes: dict[str, Any] = {
        "roles": frozenset({"scheduler"}),
        "declared": "replace" if apply else "keep",
    }

    def before(quiv: AsyncQuiv) -> None:
        log_differences(quiv, apply=apply)

    process.run(
        process.Role("scheduler", changes, before=before), app, process.ProcessOptions(**given)
    )


def log_differences(quiv: AsyncQuiv, *, apply: bool) -> None:
    """Log how stored tasks differ from declared ones, and what becomes of that."""
    declared = quiv.declared_tasks()
    if not declared:
        return

    async def compare() -> list[Difference]:
        return await differences(await quiv.engine.store(), declared)

    for difference in quiv.engine.submit(compare()).result():
        fate = "changed to" if apply else "kept; quiv-scheduler --apply would change it to"
        _LOG.log(
            logging.INFO if apply else logging.WARNING,
            "task %s is stored otherwise than declared, and is %s: %s",
            difference.task_id, fate, difference,
        )  # fmt: skip


if __name__ == "__main__":
    main(prog_name="quiv-scheduler")
