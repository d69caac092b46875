"""What the leader does beside dispatching: take back the jobs of dead workers, and sweep.

A worker that is killed is judged by its control channel: seen present, then gone over the same
unbroken connection of ours at every look of three seconds, with nothing renewed in all of them,
its jobs are taken back. A worker that hangs or is cut off keeps its channel or loses it together
with ours; then only the end of its leases decides, seen unrenewed at every look of three seconds.

The three seconds are those of looks, not of the server's clock alone: after a server that froze,
live workers have renewed nothing for long either, and need a moment to be back. Standbys look
too, if less often: what kills a worker may kill the leader, and the next one must know whom it
has seen.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from quiv_dist.clock import monotonic_s
from quiv_dist.exceptions import LeadershipLostError
from quiv_dist.node import NodeLink
from quiv_dist.scheduler.elector import Elector
from quiv_dist.service import Service
from quiv_dist.store.keys import PRIORITIES
from quiv_dist.store.namespace import Store
from quiv_dist.store.partition import MOST_ITEMS
from quiv_dist.store.records import NodeRow

# How often a node that does not lead looks which workers are present.
_WATCH_S = 2.0


class _Sight(NamedTuple):
    """A worker that was seen present over ``connection``.

    ``gone_s`` is since when it is gone, ``None`` while it is present; ``renewed`` its newest
    renewal then.
    """

    connection: int
    gone_s: float | None = None
    renewed: str = ""


class Janitor(Service):
    """Sweeps one partition, while its elector says that this node leads."""

    name = "janitor"

    def __init__(
        self, store: Store, node: NodeLink, elector: Elector, logger: logging.Logger
    ) -> None:
        super().__init__(store.settings, logger)
        self._store = store
        self._node = node
        self._elector = elector
        self._partition = store.partition()
        self._reads = store.reads()
        self._seen: dict[str, _Sight] = {}
        # Nodes with a job lease that is over: its end, and how many looks in a row saw that one.
        self._over: dict[str, tuple[int, int]] = {}
        self._purge_s = float("-inf")
        self._audit_s = float("-inf")

    async def tick(self) -> float:
        """Judge the nodes; now and then sweep and audit. A standby only looks."""
        if not self._elector.trusted():
            await self._look()
            return _WATCH_S
        holder = self._elector.holder
        try:
            await self._judge_nodes(holder)
            if monotonic_s() - self._purge_s >= self.settings.purge_s:
                await self._sweep(holder)
                self._purge_s = monotonic_s()
            if monotonic_s() - self._audit_s >= self.settings.audit_s:
                await self._audit(holder)
                self._audit_s = monotonic_s()
        except LeadershipLostError:
            self._elector.wake()
        return self.settings.janitor_s

    def failed(self, error: Exception) -> None:  # noqa: ARG002 - whatever it is
        """Begin to count anew: nobody could renew meanwhile."""
        self._over = {}

    async def _look(self) -> tuple[int, list[NodeRow]]:
        """Note which workers are present; return the server's time and all nodes."""
        connection = self._node.connection
        now_ms, nodes = await self._partition.survey_nodes()
        workers = [node for node in nodes if node.jobs or "worker" in node.wire.roles]
        ours = self._node.id
        present = await self._reads.presence([ours, *(node.node_id for node in workers)])
        # Our own channel is not there: this is another server than the one channels are on.
        if not connection or connection != self._node.connection or not present[ours]:
            self._seen = {}
            return now_ms, nodes
        seen: dict[str, _Sight] = {}
        for node in workers:
            before = self._seen.get(node.node_id)
            if present[node.node_id]:
                seen[node.node_id] = _Sight(connection)
            elif before is not None and before.connection == connection:
                renewed = before.gone_s is None or before.renewed != node.renewed
                gone = _Sight(connection, monotonic_s(), node.renewed)
                seen[node.node_id] = gone if renewed else before
        self._seen = seen
        return now_ms, nodes

    async def _judge_nodes(self, holder: str) -> None:
        now_ms, nodes = await self._look()
        before, self._over = self._over, {}
        for node in nodes:
            end_ms = node.first_job_lease_end_ms
            if node.jobs and 0 <= end_ms <= now_ms:
                # After an outage all leases are over, and live workers need a moment to renew.
                last_end_ms, looks = before.get(node.node_id, (end_ms, 0))
                looks = looks + 1 if last_end_ms == end_ms else 1
                self._over[node.node_id] = (end_ms, looks)
                if looks * self.settings.janitor_s * 1000 >= self.settings.presence_silence_ms:
                    await self._reclaim(holder, node, "its lease is over")
            elif node.jobs and self._is_dead(node):
                await self._reclaim(holder, node, "its process is gone", renewed=node.renewed)
            if not node.jobs and self._may_retire(node, now_ms):
                await self._partition.retire_node(node.node_id, holder=holder)

    def _may_retire(self, node: NodeRow, now_ms: int) -> bool:
        # One whose record went before is kept for its pinned tasks; it goes after their grace.
        grace_ms = 0 if node.renewed else self.settings.pinned_grace_ms
        return node.lease_end_ms + grace_ms <= now_ms

    def _is_dead(self, node: NodeRow) -> bool:
        sight = self._seen.get(node.node_id)
        if sight is None or sight.gone_s is None or not node.renewed:
            return False
        return (monotonic_s() - sight.gone_s) * 1000 >= self.settings.presence_silence_ms

    async def _reclaim(self, holder: str, node: NodeRow, why: str, *, renewed: str = "") -> None:
        while True:
            taken = await self._partition.reclaim(holder, node.node_id, renewed=renewed)
            if taken:
                self.logger.warning(
                    "took %d jobs back from node %s: %s", len(taken), node.node_id, why
                )
            if len(taken) < MOST_ITEMS:
                return

    async def _sweep(self, holder: str) -> None:
        for queue in await self._reads.queues():
            for priority in PRIORITIES:
                back = await self._partition.recover_pending(holder, queue, priority)
                if back:
                    self.logger.warning(
                        "put %d jobs back that were read and never claimed", len(back)
                    )
        for job_id in await self._partition.settle_parked(holder):
            self.logger.error("job %s failed: no live worker serves its handler", job_id)
        while await self._partition.purge(holder) >= MOST_ITEMS:
            pass

    async def _audit(self, holder: str) -> None:
        for task_id, what in await self._partition.audit(holder, await self._reads.task_ids()):
            self.logger.error("audit: task %s was %s: repaired", task_id, what)
