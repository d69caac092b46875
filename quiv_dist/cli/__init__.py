"""The commands: ``quiv``, ``quiv-scheduler`` and ``quiv-worker``.

``quiv`` looks at a namespace and acts on it, and ``quiv up`` runs everything on one machine. The
other two are the long-running roles. What their exit codes mean is in ``errors``.
"""

from __future__ import annotations

import click

from quiv_dist.cli.events import events
from quiv_dist.cli.jobs import jobs
from quiv_dist.cli.nodes import nodes
from quiv_dist.cli.options import version_option
from quiv_dist.cli.tasks import tasks
from quiv_dist.cli.up import up


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@version_option
def main() -> None:
    """Look at the tasks, jobs, nodes and events of a namespace, and act on them.

    `quiv-scheduler` and `quiv-worker` run the fleet; `quiv up` runs all of it on this machine.
    """


for command in (events, jobs, nodes, tasks, up):
    main.add_command(command)
