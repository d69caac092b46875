"""Claiming jobs for this worker, as many as it has room for.

While there is work, one script reads and claims a batch. When the streams are empty the worker
waits in one blocking read on a connection of its own; the server wakes one waiting worker for an
entry, and what it hands over goes into the next claim, which is what starts a job. An entry that
was handed over to a worker that died before it claimed goes back to the stream later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from quiv_dist.clock import monotonic_s
from quiv_dist.node import NodeLink
from quiv_dist.service import Service
from quiv_dist.store.namespace import Store
from quiv_dist.store.records import Claimed, Delivered, UnregisteredError

_CANCEL_AGAIN_S = 0.05


class Consumer(Service):
    """Feeds ``start`` with claimed jobs while ``free`` says that there is room."""

    name = "consumer"

    def __init__(
        self,
        store: Store,
        node: NodeLink,
        logger: logging.Logger,
        *,
        streams: Sequence[tuple[str, str]],
        free: Callable[[], int],
        start: Callable[[Claimed], None],
    ) -> None:
        super().__init__(store.settings, logger)
        self._store = store
        self._node = node
        self._partition = store.partition()
        self._blocking = store.blocking_reads()
        self._streams = list(streams)
        self._free = free
        self._start_job = start
        self._waiting: asyncio.Task[list[Delivered]] | None = None
        self._delivered: list[Delivered] = []
        self._groups_made = False
        # A claim or a blocking read may have been executed and its reply lost.
        self._in_doubt = False
        # Set while the last look found less than there was room for.
        self.drained = asyncio.Event()
        self._only_looks = False

    async def emptied(self) -> None:
        """Wait until a look that began after this call has found less than there was room for.

        The blocking read ends before that look: what it is handed is on its way to this worker
        and would not be found. Nothing is read that way meanwhile.
        """
        self._only_looks = True
        try:
            if self._waiting is not None:
                await asyncio.wait([self._waiting])
            # The look under way may have begun before this call.
            for _ in range(2):
                self.drained.clear()
                self.wake()
                await self.drained.wait()
        finally:
            self._only_looks = False

    async def tick(self) -> float | None:
        """Claim once; then wait for an entry, for a slot, or for a wake."""
        if not self._groups_made:
            await self._store.reads().create_groups(self._streams)
            self._groups_made = True
        if self._in_doubt:
            await self._surrender()
        await self._collect()
        slots = max(self._free(), 0)
        if not slots and not self._delivered:
            return None
        try:
            taken = await self._claim(slots)
        except UnregisteredError:
            # The server lost everything. What was delivered is kept for the next claim, and
            # registering wakes this loop.
            self._node.renew_soon()
            return self.settings.urgent_heartbeat_s
        if not slots:
            return None  # What was delivered went back to its stream: others have room for it.
        if taken >= slots:
            self.drained.clear()
            return 0.0
        self.drained.set()
        if self._waiting is None and not self._only_looks and self._free() > 0:
            self._waiting = asyncio.create_task(self._wait_for_entry())
        return self.settings.poll_s

    async def closed(self) -> None:
        """End the blocking read; what it was handed meanwhile goes back when the node retires."""
        waiting = self._waiting
        # More than once: the client swallows a cancellation that comes while it connects.
        while waiting is not None and not waiting.done():
            waiting.cancel()
            await asyncio.wait([waiting], timeout=_CANCEL_AGAIN_S)
        if waiting is not None and not waiting.cancelled():
            waiting.exception()  # Looked at: what ended the read does not matter any more.

    def failed(self, error: Exception) -> None:  # noqa: ARG002 - any error has the same cure
        """Make the groups again, which the server may have lost, and doubt the last claim."""
        self._groups_made = False
        self._in_doubt = True

    async def _surrender(self) -> None:
        with self._node.held_lock:
            known = list(self._node.held)
        back = await self._partition.surrender(self._node.id, known, self._streams)
        self._delivered = []
        self._in_doubt = False
        if back:
            self.logger.warning("gave back %d jobs of a reply that was lost", len(back))

    async def _claim(self, slots: int) -> int:
        delivered, sent_s = self._delivered, monotonic_s()
        server_ms, jobs = await self._partition.claim(
            self._node.id, slots=slots, streams=self._streams, delivered=delivered
        )
        self._delivered = []
        self._store.observe(server_ms, sent_s, self.logger.error)
        for job in jobs:
            self._start_job(job)
        return len(jobs)

    async def _collect(self) -> None:
        waiting = self._waiting
        if waiting is not None and waiting.done():
            self._waiting = None
            self._delivered += waiting.result()

    async def _wait_for_entry(self) -> list[Delivered]:
        try:
            while True:
                found = await self._blocking.wait_for_entry(
                    self._node.id, self._streams, self.settings.block_ms
                )
                if found or self._only_looks:
                    return found
        finally:
            self.wake()
