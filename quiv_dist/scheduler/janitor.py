"""What the leader does beside dispatching: take back the jobs of dead workers, and sweep.

A worker that is killed is judged by its control channel: seen present, then gone over the same
unbroken connection of ours, with nothing renewed for three seconds, its jobs are taken back at
once. A worker that hangs or is cut off keeps its channel or loses it together with ours; then
only the end of its leases decides.
"""

from __future__ import annotations

import logging

from quiv_dist.clock import monotonic_s
from quiv_dist.exceptions import LeadershipLostError
from quiv_dist.node import NodeLink
from quiv_dist.scheduler.elector import Elector
from quiv_dist.service import Service
from quiv_dist.store.keys import PRIORITIES
from quiv_dist.store.namespace import Store
from quiv_dist.store.partition import MOST_ITEMS
from quiv_dist.store.records import NodeRow


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
        # Nodes seen present, and the connection they were seen over.
        self._present: dict[str, int] = {}
        self._purge_s = float("-inf")
        self._audit_s = float("-inf")

    async def tick(self) -> float | None:
        """Judge the nodes; now and then sweep and audit."""
        if not self._elector.trusted():
            self._present.clear()
            return None
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

    async def _judge_nodes(self, holder: str) -> None:
        connection = self._node.connection
        now_ms, nodes = await self._partition.survey_nodes()
        working = [node.node_id for node in nodes if node.jobs]
        present = await self._reads.presence(working)
        steady = bool(connection) and connection == self._node.connection
        for node in nodes:
            if node.jobs and 0 <= node.first_job_lease_end_ms <= now_ms:
                await self._reclaim(holder, node, "its lease is over")
            elif present.get(node.node_id):
                if steady:
                    self._present[node.node_id] = connection
            elif node.jobs and steady and self._is_dead(node, connection, now_ms):
                await self._reclaim(holder, node, "its process is gone", renewed=node.renewed)
            if not node.jobs and node.lease_end_ms <= now_ms:
                await self._partition.retire_node(node.node_id, holder=holder)
                self._present.pop(node.node_id, None)

    def _is_dead(self, node: NodeRow, connection: int, now_ms: int) -> bool:
        if self._present.get(node.node_id) != connection or not node.renewed:
            return False
        return now_ms - int(node.renewed) >= self.settings.presence_silence_ms

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
