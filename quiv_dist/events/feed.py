"""The events of the whole namespace, as one process hears them: in log order, each once.

Live events come by pub/sub, which forgets while a connection is down; the event log does not.
The feed subscribes, waits for the acknowledgement, compares what it has handled with the newest
ids beside the log, reads from the log what it has missed while live messages wait, and goes on
with those. It does the same again whenever an event does not follow the one before it, when the
connection was lost, when messages found no room, when whoever takes the events has fallen
behind, and when a regular look at the newest ids finds some that never came.
``cursor.LogCursor`` holds the rules; this module moves the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quiv_dist.clock import monotonic_s
from quiv_dist.events.covering import CoverWaiters
from quiv_dist.events.cursor import EventId, LogCursor, Lost, Verdict, parse_id
from quiv_dist.events.echoes import Echo, EchoFilter
from quiv_dist.events.log import EnvelopeReader, LogReads, LogState, gap_event
from quiv_dist.events.subscription import Subscription
from quiv_dist.exceptions import ConfigurationError, RedisUnavailableError, SchemaVersionError
from quiv_dist.models import Event
from quiv_dist.service import Service
from quiv_dist.store.reads import LOG_PAGE

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from quiv_dist.core.wire import Envelope
    from quiv_dist.store.channels import Message
    from quiv_dist.store.namespace import Store

# Events that may wait downstream, and messages that may wait here.
MOST_WAITING = 10_000
# Messages handled before others on this loop have their turn.
_BATCH = 500
# An event that the log has and that did not come within this time never comes.
_SECOND_LOOK_S = 1.0
# How often to look whether those who had fallen behind have caught up.
_BEHIND_S = 0.05

# Made here, never published.
_LOCAL = frozenset({Event.EVENTS_LOST.value})
# Published, never logged.
_UNLOGGED = frozenset({Event.JOB_PROGRESS.value})


@dataclass
class _Log:
    """The log of one partition. ``doubt``: something may have been missed."""

    number: int
    reads: LogReads
    cursor: LogCursor = field(default_factory=LogCursor)
    doubt: bool = True
    # What was behind at the last regular look.
    late: Mapping[str, EventId] = field(default_factory=dict)

    def channel(self, kind: str) -> str:
        return self.reads.keys.event_channel(kind)


class EventFeed(Service):
    """Brings the events of the kinds covered to one process. Lives on one event loop.

    Args:
        store: The namespace.
        logger: Where it says what it does.
        deliver: Takes each event; must not block.
        backlog: Tells how many delivered events wait to be handled. From ``most_waiting`` on
            nothing more is delivered until half of them are done: the log keeps it meanwhile.
        most_waiting: See ``backlog``; also the most live messages that wait inside the feed.
    """

    name = "events"

    def __init__(
        self,
        store: Store,
        logger: logging.Logger,
        deliver: Callable[[Envelope], object],
        *,
        backlog: Callable[[], int] = int,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        super().__init__(store.settings, logger)
        self._store = store
        self._deliver = deliver
        self._backlog = backlog
        self._most_waiting = most_waiting
        self._echoes = EchoFilter(self._hand_over)
        self._wanted: set[str] = set()
        self._waiters = CoverWaiters()
        self._logs: list[_Log] = []
        self._subscription: Subscription | None = None
        self._channels: dict[str, tuple[_Log, str]] = {}
        self._overloaded = False
        self._look_at_s = 0.0
        self._reader = EnvelopeReader(logger)
        self._refusal = ""

    # For the process ----------------------------------------------------------------------------

    @property
    def position(self) -> dict[int, str]:
        """The id of the newest event handled in each partition's log, for diagnostics."""
        return {log.number: log.cursor.position for log in self._logs}

    async def cover(self, kinds: Iterable[Event]) -> None:
        """Follow these kinds too; every event stored after this has returned is delivered.

        Raises:
            RedisUnavailableError: the server did not answer within ``command_timeout_s``. The
                kinds stay wanted, and are followed from when it does.
            ConfigurationError: the server refuses the subscription.
            SchemaVersionError: the namespace was written by an unsupported version.
        """
        names = frozenset(kind.value for kind in kinds)
        self._wanted |= names
        if all(self._is_covered(name) for name in names):
            return
        self.wake()
        await self._waiters.wait(names, self.settings.command_timeout_s)

    async def uncover(self, kinds: Iterable[Event]) -> None:
        """Follow these kinds no more; none of their events is delivered from now on."""
        for kind in kinds:
            self._wanted.discard(kind.value)
            for log in self._logs:
                log.cursor.forget(kind.value)
        self.wake()

    def call(self, call_id: str) -> AbstractContextManager[Echo]:
        """Hold the echoes of a call of this process while it is in flight.

        To be used on the feed's loop. See ``echoes``.
        """
        return self._echoes.call(call_id)

    async def stop(self) -> None:
        """End now; nothing is lost by ending in the middle of a pass."""
        await self.abort()

    # The loop -----------------------------------------------------------------------------------

    async def tick(self) -> float | None:
        """Do the next piece of work; what is refused is reported to those who wait for it."""
        try:
            wait = await self._advance()
        except (ConfigurationError, SchemaVersionError) as error:
            await self._disconnect()
            if self._refusal != str(error):
                self._refusal = str(error)
                self.logger.error("%s: %s", self.name, error)  # noqa: TRY400 - says it all
            self._waiters.fail(error)
            return self.settings.backoff_most_s
        self._refusal = ""
        return wait

    async def closed(self) -> None:
        """Close the connection, and let nobody wait for what does not come any more."""
        self._waiters.fail(RedisUnavailableError("the event feed was stopped"))
        await self._disconnect()

    async def _advance(self) -> float | None:
        if not self._wanted - _LOCAL:
            await self._disconnect()
            self._waiters.settle(self._is_covered)
            return None
        await self._open_logs()
        overloaded = await self._is_overloaded()
        if not overloaded:
            await self._subscribe()
        await self._follow_new_kinds()
        self._waiters.settle(self._is_covered)
        if overloaded:
            return _BEHIND_S
        for log in self._logs:
            if log.cursor.gap is not None:
                await self._read_page(log)
                return 0.0
            if log.doubt:
                await self._compare(log)
                return 0.0
        if self._drain():
            return 0.0
        return await self._look()

    async def _open_logs(self) -> None:
        if self._logs:
            return
        if not self._store.incarnation:
            await self._store.open()
        self._logs = [
            _Log(number, LogReads.over(self._store.reads(number)))
            for number in range(self._store.partitions)
        ]

    async def _is_overloaded(self) -> bool:
        waiting = self._backlog()
        if self._overloaded:
            self._overloaded = waiting > self._most_waiting // 2
        elif waiting >= self._most_waiting:
            self._overloaded = True
            self.logger.debug(
                "%s: %d wait for listeners; going on from the log", self.name, waiting
            )
            await self._disconnect()
        return self._overloaded

    # Subscribing --------------------------------------------------------------------------------

    async def _subscribe(self) -> None:
        """Bring the subscription in line with what is wanted, all of it acknowledged."""
        self._channels = {
            log.channel(kind): (log, kind) for log in self._logs for kind in self._wanted - _LOCAL
        }
        names = set(self._channels)
        try:
            if self._subscription is None:
                await self._connect(names)
            else:
                await self._subscription.match(names)
        except BaseException:
            await self._disconnect()
            raise

    async def _connect(self, names: set[str]) -> None:
        subscription = Subscription(self._store.channel(), self._most_waiting, self.wake)
        self._subscription = subscription
        await subscription.open(names)
        for log in self._logs:
            log.doubt = True
            log.late = {}
        self._look_at_s = monotonic_s() + self.settings.log_check_s

    async def _disconnect(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.close()

    async def _follow_new_kinds(self) -> None:
        """Begin with kinds just covered, at the log's end; the subscription brings the rest.

        While overloaded there is no subscription, and the log will bring it.
        """
        logged = self._wanted - _LOCAL - _UNLOGGED
        if self._subscription is not None:
            # What was covered during the subscribing has its turn in the next pass.
            logged = {
                kind
                for kind in logged
                if all(log.channel(kind) in self._subscription.names for log in self._logs)
            }
        for log in self._logs:
            new = [kind for kind in logged if not log.cursor.follows(kind)]
            if not new:
                continue
            state = await log.reads.state()
            self._observe(log, state)
            for kind in new:
                if kind in self._wanted:
                    log.cursor.begin(kind, state)

    def _is_covered(self, kind: str) -> bool:
        if kind in _LOCAL or kind not in self._wanted:
            return True
        if not self._logs:
            return False
        if kind in _UNLOGGED:
            subscription = self._subscription
            if subscription is None:
                return self._overloaded
            return all(log.channel(kind) in subscription.names for log in self._logs)
        return all(log.cursor.follows(kind) for log in self._logs)

    # Reading ------------------------------------------------------------------------------------

    async def _compare(self, log: _Log) -> None:
        state = await log.reads.state()
        log.doubt = False
        self._observe(log, state)

    async def _read_page(self, log: _Log) -> None:
        gap = log.cursor.gap
        assert gap is not None
        page = await log.reads.log_after(gap.read_after())
        for item in log.cursor.read(page, more=len(page) == LOG_PAGE):
            if isinstance(item, Lost):
                self._report(log, item)
                continue
            envelope = self._reader.decode(item.kind, item.data)
            if envelope is None:
                continue
            if envelope.log != log.cursor.incarnation:
                # The log was replaced while it was read; nothing of this page is of use.
                log.cursor.gap = None
                log.doubt = True
                return
            self._hear(envelope)

    def _drain(self) -> bool:
        """Handle a batch of live messages; tell whether there may be more to do at once."""
        assert self._subscription is not None
        messages = self._subscription.take(_BATCH)
        for message in messages:
            self._handle(message)
        if not messages and self._subscription.take_overflow():
            for log in self._logs:
                log.doubt = True
            return True
        return bool(messages)

    def _handle(self, message: Message) -> None:
        if message.channel not in self._channels:
            return
        log, kind = self._channels[message.channel]
        envelope = self._reader.decode(kind, message.data)
        if envelope is None:
            return
        if not envelope.id:
            self._hear(envelope)
            return
        verdict = log.cursor.live(
            kind, parse_id(envelope.id), parse_id(envelope.prev), envelope.log
        )
        if verdict is Verdict.TAKE:
            self._hear(envelope)
        elif verdict is Verdict.READ_LOG:
            log.doubt = True

    # Looking at the log -------------------------------------------------------------------------

    async def _look(self) -> float:
        """Compare with the log from time to time: a subscription can die silently."""
        now_s = monotonic_s()
        subscription = self._subscription
        assert subscription is not None
        if now_s < self._look_at_s:
            return self._look_at_s - now_s
        dead, behind = await self._is_mute(subscription), False
        for log in self._logs:
            state = await log.reads.state()
            if log.cursor.replaced(state):
                log.doubt = True
                continue
            dead = dead or log.cursor.is_short_of(log.late)
            log.late = log.cursor.behind(state)
            if log.late:
                behind = True
            else:
                log.cursor.confirm(state)
        if dead and not subscription.has_messages:
            self.logger.warning(
                "%s: the subscription had died silently; opening it anew", self.name
            )
            await self._disconnect()
            return 0.0
        # What is behind may be on its way.
        wait_s = _SECOND_LOOK_S if behind else self.settings.log_check_s
        self._look_at_s = monotonic_s() + wait_s
        return 0.0 if any(log.doubt for log in self._logs) else wait_s

    async def _is_mute(self, subscription: Subscription) -> bool:
        try:
            await subscription.probe(self._logs[0].channel("probe"))
        except RedisUnavailableError:
            return True
        return False

    # Delivering ---------------------------------------------------------------------------------

    def _observe(self, log: _Log, state: LogState) -> None:
        for lost in log.cursor.observe(state):
            self._report(log, lost)

    def _report(self, log: _Log, lost: Lost) -> None:
        self.logger.warning(
            "%s: events of partition %d were lost: from %s to %s",
            self.name, log.number, lost.from_id or "the beginning", lost.to_id or "the end",
        )  # fmt: skip
        at_ms = self._store.clock.now_ms()
        self._hand_over(gap_event(lost, log.number, log.cursor.incarnation, at_ms))

    def _hear(self, envelope: Envelope) -> None:
        if not self._echoes.keeps(envelope):
            self._hand_over(envelope)

    def _hand_over(self, envelope: Envelope) -> None:
        if envelope.type in self._wanted:
            self._deliver(envelope)
