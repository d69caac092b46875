"""Ends of deliveries, recorded a batch at a time.

Ends gather while the previous batch is on its way and go together in one script: no round trip
a job under load, no wait when idle. While Redis is away they stay here; the script refuses those
whose lease was lost meanwhile.
"""

from __future__ import annotations

import asyncio
import logging

from quiv_dist.node import NodeLink
from quiv_dist.service import Service
from quiv_dist.store.namespace import Store
from quiv_dist.store.partition import MOST_ITEMS
from quiv_dist.store.records import Finish


class Finisher(Service):
    """Flushes ends of deliveries to the store."""

    name = "finisher"

    def __init__(self, store: Store, node: NodeLink, logger: logging.Logger) -> None:
        super().__init__(store.settings, logger)
        self._partition = store.partition()
        self._node = node
        self._ends: list[Finish] = []
        self._flushed = asyncio.Event()
        self._flushed.set()

    def add(self, end: Finish) -> None:
        """Record this end with the next batch."""
        self._ends.append(end)
        self._flushed.clear()
        self.wake()

    async def flushed(self) -> None:
        """Wait until everything added so far is recorded."""
        await self._flushed.wait()

    async def tick(self) -> float | None:
        """Send one batch."""
        if not self._ends:
            self._flushed.set()
            return None
        batch = self._ends[:MOST_ITEMS]
        words = await self._partition.finish(self._node.id, batch)
        del self._ends[: len(batch)]
        for end, word in zip(batch, words, strict=True):
            if self._node.release(end.job_id, end.delivery) and word == "REFUSED":
                self.logger.warning(
                    "job %s: the end of delivery %d (%s) was refused: the job is not this"
                    " node's any more", end.job_id, end.delivery, end.outcome,
                )  # fmt: skip
        return 0.0
