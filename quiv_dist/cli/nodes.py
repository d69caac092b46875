"""``quiv nodes``: who is there, who leads, who holds which jobs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import click

from quiv_dist.cli import options, output
from quiv_dist.cli.connection import target
from quiv_dist.cli.errors import Command
from quiv_dist.core.leases import epoch_of, node_of
from quiv_dist.store.namespace import Store
from quiv_dist.store.records import NodeRow


@dataclass(frozen=True)
class NodeLine:
    """A node as it is shown. Times are seconds by the server's clock.

    ``lease_left_s`` is below 0 for a node that renews no more and was not swept yet.
    """

    id: str
    roles: tuple[str, ...]
    host: str
    pid: int
    app: str | None
    version: str
    leads: bool
    epoch: int | None
    jobs: int
    queues: tuple[str, ...]
    handlers: tuple[str, ...]
    renewed_s_ago: float | None
    lease_left_s: float


@click.command(cls=Command, context_settings=options.SETTINGS)
@options.as_json
@options.inspection
def nodes(*, as_json: bool, **at: Any) -> None:
    """List the processes of a namespace, and mark the one that leads."""
    with target(**at) as found:
        lines = found.read(_survey)
    if as_json:
        for line in lines:
            output.json_line(asdict(line))
        return
    output.table(
        ("NODE", "ROLES", "HOST", "PID", "LEADER", "JOBS", "RENEWED", "LEASE", "APP", "QUEUES"),
        map(_row, lines),
        empty="no nodes: no scheduler, worker or application runs in this namespace",
    )
    if lines and not any(line.leads for line in lines):
        click.echo("nobody leads: no task fires until a scheduler does", err=True)


async def _survey(store: Store) -> list[NodeLine]:
    """Return the nodes of the namespace, the leader first."""
    lines = []
    for number in range(store.partitions):
        holder, until_ms = await store.reads(number).leader()
        now_ms, rows = await store.partition(number).survey_nodes()
        leader = holder if until_ms > now_ms else ""
        lines += [_line(row, now_ms, leader) for row in rows]
    return sorted(lines, key=lambda line: (not line.leads, line.roles, line.host, line.pid))


def _line(row: NodeRow, now_ms: int, holder: str) -> NodeLine:
    wire = row.wire
    leads = bool(holder) and node_of(holder) == row.node_id
    return NodeLine(
        id=row.node_id,
        roles=wire.roles,
        host=wire.host,
        pid=wire.pid,
        app=wire.app,
        version=wire.version,
        leads=leads,
        epoch=epoch_of(holder) if leads else None,
        jobs=row.jobs,
        queues=tuple(queue for queue in wire.queues if not queue.startswith("@")),
        handlers=wire.handlers,
        renewed_s_ago=(now_ms - int(row.renewed)) / 1000 if row.renewed else None,
        lease_left_s=(row.lease_end_ms - now_ms) / 1000,
    )


def _row(line: NodeLine) -> tuple[str, ...]:
    renewed = "" if line.renewed_s_ago is None else f"{output.span(line.renewed_s_ago)} ago"
    left = line.lease_left_s
    lease = f"{output.span(left)} left" if left > 0 else f"over for {output.span(-left)}"
    return (
        line.id, ",".join(line.roles) or "client", line.host, str(line.pid),
        f"epoch {line.epoch}" if line.leads else "", str(line.jobs), renewed, lease,
        line.app or "", ",".join(line.queues),
    )  # fmt: skip
