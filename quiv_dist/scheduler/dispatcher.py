"""Due ticks into streams, each exactly once.

The leader keeps a small look-ahead of the due set, sleeps until its first member is due, works
out what each due tick means and what comes after it, and hands a batch to one script. The
script compares revision, due time and high-water mark of every tick with what was read, so a
look-ahead may be stale without harm: the tick is refused and read again.

While one batch is on its way the next is being worked out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import lru_cache

import msgspec

from quiv_dist.clock import monotonic_s
from quiv_dist.core import ids
from quiv_dist.core.misfire import MisfirePolicy, plan_tick
from quiv_dist.core.triggers import Trigger
from quiv_dist.exceptions import LeadershipLostError
from quiv_dist.scheduler.elector import Elector
from quiv_dist.service import Service
from quiv_dist.store.namespace import Store
from quiv_dist.store.records import Due, Fire

# Read at once; ten batches of work.
_PAGE = 2_000
# A timer may end this early against a due time in whole milliseconds.
_ROUNDING_S = 0.001
_POLICY = MisfirePolicy()

_decode_trigger = lru_cache(maxsize=16_384)(msgspec.msgpack.Decoder(Trigger).decode)


class Dispatcher(Service):
    """Fires what is due in one partition, while its elector says that this node leads."""

    name = "dispatcher"

    def __init__(self, store: Store, elector: Elector, logger: logging.Logger) -> None:
        super().__init__(store.settings, logger)
        self._store = store
        self._elector = elector
        self._partition = store.partition()
        self._ahead: list[Due] = []
        self._read_s = float("-inf")
        self._full_page = False

    def due_at(self, due_ms: int) -> None:
        """Hear of a new due time: read again if it comes before the next read would."""
        if due_ms <= self._store.clock.now_ms() + self.settings.look_ahead_ms:
            self._read_s = float("-inf")
            self.wake()

    def forget(self) -> None:
        """Drop the look-ahead: another node led in between."""
        self._ahead = []
        self._read_s = float("-inf")

    async def tick(self) -> float:
        """Fire what is due; return the seconds until the next is."""
        if not self._elector.trusted():
            # Not for ever: trust can come back with no change of leadership to wake us.
            return self.settings.poll_s
        self._elector.busy(begins=True)
        try:
            return await self._dispatch()
        except LeadershipLostError:
            self._elector.wake()
            self.forget()
            return self.settings.poll_s
        finally:
            self._elector.busy(begins=False)

    async def _dispatch(self) -> float:
        settings = self.settings
        now_ms = self._store.clock.now_ms()
        stale = monotonic_s() - self._read_s >= settings.poll_s
        if stale or (not self._ahead and self._full_page):
            now_ms = await self._read()
        due = [item for item in self._ahead if item.due_ms <= now_ms]
        if due:
            self._ahead = self._ahead[len(due) :]
            await self._fire_all(due, now_ms)
            now_ms = await self._read()
        if self._ahead:
            wait_s = (self._ahead[0].due_ms - now_ms) / 1000
            return min(settings.poll_s, wait_s + _ROUNDING_S) if wait_s > 0 else 0.0
        return settings.poll_s

    async def _read(self) -> int:
        sent_s = self._read_s = monotonic_s()
        now_ms, self._ahead = await self._partition.peek_due(
            ahead_ms=self.settings.look_ahead_ms, most=_PAGE
        )
        self._full_page = len(self._ahead) >= _PAGE
        self._store.observe(now_ms, sent_s, self.logger.error)
        return now_ms

    async def _fire_all(self, due: list[Due], now_ms: int) -> None:
        size = self.settings.batch
        sent: asyncio.Task[list[str]] | None = None
        batch: list[Fire] = []
        try:
            for first in range(0, len(due), size):
                prepared = [await self._prepare(item, now_ms) for item in due[first : first + size]]
                if sent is not None:
                    self._judge(await sent, batch)
                    sent = None
                if not self._elector.trusted():
                    return
                batch = [item for item in prepared if item is not None]
                if batch:
                    sent = asyncio.create_task(self._partition.fire(self._elector.holder, batch))
            if sent is not None:
                self._judge(await sent, batch)
        except BaseException:
            if sent is not None and not sent.done():
                sent.cancel()
            raise

    def _judge(self, words: list[str], batch: list[Fire]) -> None:
        """Log what was refused; the next read brings it again."""
        if all(word == "OK" for word in words):
            return
        counts = Counter(words)
        self.logger.debug("fired %d: %s", len(batch), dict(counts))
        for word, item in zip(words, batch, strict=True):
            if word == "DUP":
                self.logger.error("%s was due at a time that was already covered", item.member)

    async def _prepare(self, item: Due, now_ms: int) -> Fire | None:
        if item.member.startswith("r:"):
            return Fire(item.member, item.due_ms)
        task_id = item.member.removeprefix("t:")
        try:
            return self._plan(task_id, item, now_ms)
        except Exception as error:
            # One task's schedule must not stop the others'.
            self.logger.exception("the schedule of task %s cannot be computed: paused", task_id)
            await self._partition.pause_task(
                task_id,
                reason=f"its schedule cannot be computed: {error}",
                actor="scheduler",
                call="",
                revision=item.revision,
            )
            return None

    def _plan(self, task_id: str, item: Due, now_ms: int) -> Fire:
        trigger = _decode_trigger(item.trigger)
        plan = plan_tick(
            trigger, _POLICY, task_id, item.nominal_ms, item.due_ms, item.anchor_ms, now_ms
        )
        fire = Fire(
            member=item.member,
            due_ms=item.due_ms,
            revision=item.revision,
            fire_ms=plan.fire_ms,
            newest_ms=plan.last_ms,
            next_nominal_ms=plan.next_nominal_ms,
            next_due_ms=plan.next_due_ms,
        )
        if plan.fire_ms is not None:
            number = self._partition.keys.partition
            fire.run_id = ids.run_id(
                number, self._store.namespace, "tick", task_id, item.incarnation, str(plan.fire_ms)
            )
            fire.job_id = ids.job_id(fire.run_id, 1)
        if plan.passed is not None:
            passed = plan.passed
            fire.passed = (passed.outcome, passed.first_ms, passed.last_ms, passed.count)
        return fire
