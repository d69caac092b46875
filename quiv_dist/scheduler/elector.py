"""Taking, keeping and giving up the leader lease.

=========  =====================================================================
state      what it does
=========  =====================================================================
standby    looks every 0.25 to 0.5 s, and at once when a leader resigns. Takes a
           lease that is free or over. Takes one from a live lease when its
           holder's presence is gone (below)
leader     renews every 1.5 s of a 5 s lease; trusts itself until the monotonic
           start of its last successful renewal + lease - margin
any doubt  a refused renewal, the end of the trust window, a stalled dispatcher:
           it stops leading first and looks again after
=========  =====================================================================

**Presence.** A node listens on its own control channel, on a connection of its own, from before
it acquires. The server drops that connection milliseconds after the process is killed. A standby
that has seen the leader's channel present, and sees it gone on two looks, over the same unbroken
connection of its own (so: on the same run of the same server), takes over from exactly that
holder by compare-and-set. Redis counts such takeovers and allows one a lease period, so that
nodes which cannot keep a subscription do not depose one another for ever.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from quiv_dist.clock import monotonic_s
from quiv_dist.core.leases import CLOSED, TrustWindow, epoch_of, node_of
from quiv_dist.exceptions import RedisUnavailableError
from quiv_dist.node import NodeLink
from quiv_dist.service import Service
from quiv_dist.store.namespace import Store
from quiv_dist.store.records import LeaseReply


class Elector(Service):
    """Holds the leader lease of one partition, or waits for it."""

    name = "elector"

    def __init__(
        self,
        store: Store,
        node: NodeLink,
        logger: logging.Logger,
        *,
        on_change: Callable[[bool], None],
    ) -> None:
        super().__init__(store.settings, logger)
        self._store = store
        self._node = node
        self._partition = store.partition()
        self._reads = store.reads()
        self._on_change = on_change
        self._window = CLOSED
        self._holder = ""
        self._busy_since_s: float | None = None
        # The holder whose presence was seen, and the connection it was seen over.
        self._present: tuple[str, int] = ("", 0)

    @property
    def holder(self) -> str:
        """The lease value ``node|epoch`` of this node's term, empty while it does not lead."""
        return self._holder

    @property
    def epoch(self) -> int:
        """The epoch of this node's term, 0 while it does not lead."""
        return epoch_of(self._holder)

    def trusted(self) -> bool:
        """Tell whether this node may act as the leader at this instant."""
        return bool(self._holder) and self._window.holds(monotonic_s())

    def busy(self, *, begins: bool) -> None:
        """Hear from the dispatcher that a pass begins or ends: the watchdog's food."""
        self._busy_since_s = monotonic_s() if begins else None

    async def tick(self) -> float:
        """Renew while leading, look while not."""
        if self._holder:
            return await self._renew()
        return await self._look()

    def failed(self, error: Exception) -> None:
        """Stop leading once the window is over; what was seen over a broken connection is void."""
        if self._holder and not self.trusted():
            self._depose(f"the lease could not be renewed in time ({error})")

    async def resign(self) -> None:
        """Give the lease up so that a standby leads at once; then look no more."""
        holder = self._holder
        self._stopping = True
        if holder:
            self._depose("resigned", logging.INFO)
            await self._partition.resign(holder)

    async def _renew(self) -> float:
        if not self.trusted():
            self._depose("the trust window is over")
            return 0.0
        settings = self.settings
        busy = self._busy_since_s
        if busy is not None and monotonic_s() - busy > settings.stall_s:
            holder = self._holder
            self._depose(f"the dispatcher has been stuck for {monotonic_s() - busy:.1f} s")
            await self._partition.resign(holder)
            return settings.standby_look_max_s
        sent_s = monotonic_s()
        try:
            async with asyncio.timeout(self._window.left_s(sent_s)):
                reply = await self._partition.renew_leader(
                    self._holder, lease_ms=settings.leader_lease_ms
                )
        except TimeoutError as error:
            msg = "no answer to a renewal"
            raise RedisUnavailableError(msg) from error
        if not reply.held:
            self._depose(f"{reply.holder or 'nobody'} holds the lease")
            return 0.0
        self._trust(sent_s, reply)
        return settings.leader_renew_s

    async def _look(self) -> float:
        pause = random.uniform(  # noqa: S311 - not a secret
            self.settings.standby_look_min_s, self.settings.standby_look_max_s
        )
        connection = self._node.connection
        if not connection:
            # Without presence of our own, others could not tell our death early.
            return pause
        reply = await self._acquire()
        if reply.held:
            return self.settings.leader_renew_s
        if not await self._gone(reply.holder, connection):
            return pause
        reply = await self._acquire(gone=reply.holder)
        return self.settings.leader_renew_s if reply.held else pause

    async def _acquire(self, gone: str = "") -> LeaseReply:
        sent_s = monotonic_s()
        reply = await self._partition.elect(
            self._node.id, lease_ms=self.settings.leader_lease_ms, gone=gone
        )
        if reply.held:
            self._holder = reply.holder
            self._trust(sent_s, reply)
            self._present = ("", 0)
            self._busy_since_s = None
            how = f", whose holder {gone} is gone" if gone else ""
            self.logger.info("leading with epoch %d%s", self.epoch, how)
            self._on_change(True)
        return reply

    async def _gone(self, holder: str, connection: int) -> bool:
        """Tell whether a holder that was present is gone on two looks."""
        node_id, ours = node_of(holder), self._node.id
        counts = await self._reads.presence([node_id, ours])
        # Our own channel is not there: this is another server than the one channels are on.
        if connection != self._node.connection or not counts[ours]:
            self._present = ("", 0)
            return False
        if counts[node_id]:
            self._present = (holder, connection)
            return False
        if self._present != (holder, connection):
            return False
        await asyncio.sleep(self.settings.second_look_s)
        counts = await self._reads.presence([node_id, ours])
        gone = counts[ours] and not counts[node_id]
        return bool(gone) and connection == self._node.connection

    def _trust(self, sent_s: float, reply: LeaseReply) -> None:
        self._store.observe(reply.server_ms, sent_s, self.logger.error)
        settings = self.settings
        self._window = TrustWindow.renewed(
            sent_s, settings.leader_lease_ms / 1000, settings.leader_margin_s
        )

    def _depose(self, why: str, level: int = logging.WARNING) -> None:
        self.logger.log(level, "leading no more (epoch %d): %s", self.epoch, why)
        self._holder = ""
        self._window = CLOSED
        self._on_change(False)
