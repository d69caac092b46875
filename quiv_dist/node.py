"""A process on the store: its record, its lease, its control channel.

All of it runs in a thread of its own with an event loop and connections of its own, so that
neither a handler that blocks the worker's loop nor a burst of events stops the renewals: a
worker that is alive must never lose its jobs because it is busy.

The control channel is subscribed on a connection that nothing else uses. The server drops it
milliseconds after the process is killed, and that is what tells others of the death long before
a lease ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import msgspec

from quiv_dist.clock import monotonic_s, utc_now
from quiv_dist.config import Settings
from quiv_dist.core.ids import new_id
from quiv_dist.core.stop import StopEvent
from quiv_dist.core.wire import NodeWire, to_ms
from quiv_dist.exceptions import QuivError, RedisUnavailableError
from quiv_dist.models import StopReason
from quiv_dist.service import Service
from quiv_dist.store.channels import Channel
from quiv_dist.store.namespace import Store

_PING_S = 3.0
_SILENCE_S = 3 * _PING_S


def package_version() -> str:
    """Return the version of this package."""
    try:
        return version("quiv-dist")
    except PackageNotFoundError:
        return "0"


@dataclass
class Held:
    """A job this process runs: the lease to renew and the event that stops it."""

    entry: str
    delivery: int
    stop: StopEvent


@dataclass
class NodeRecord:
    """What a node tells of itself. ``handlers`` and ``queues`` are what its worker serves."""

    id: str = field(default_factory=new_id)
    roles: tuple[str, ...] = ()
    app: str | None = None
    app_version: str | None = None
    queues: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ()
    started_at_ms: int = field(default_factory=lambda: to_ms(utc_now()))

    def encode(self) -> bytes:
        """Return the record as JSON."""
        return msgspec.json.encode(
            NodeWire(
                id=self.id,
                roles=self.roles,
                host=socket.gethostname(),
                pid=os.getpid(),
                app=self.app,
                app_version=self.app_version,
                version=package_version(),
                started_at_ms=self.started_at_ms,
                queues=self.queues,
                handlers=self.handlers,
            )
        )


class NodeLink:
    """Keeps a node alive on the store, and hears what is said to it.

    Callbacks run on the node's thread and must be quick: ``on_wake(due_ms)``, ``on_free()``,
    ``on_claim()``, ``on_registered()`` (also after the server lost everything).
    """

    def __init__(self, store: Store, record: NodeRecord, logger: logging.Logger) -> None:
        self.record = record
        self.held: dict[str, Held] = {}
        self.held_lock = threading.Lock()
        self.on_wake: Callable[[int], None] = _ignore
        self.on_free: Callable[[], None] = _nothing
        self.on_claim: Callable[[], None] = _nothing
        self.on_registered: Callable[[], None] = _nothing
        self._store = store
        self._logger = logger
        self._connection = 0
        self._known = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._heartbeat: Heartbeat | None = None
        self._failure: BaseException | None = None

    @property
    def id(self) -> str:
        """The node's id."""
        return self.record.id

    @property
    def connection(self) -> int:
        """The number of the live control connection, 0 while there is none."""
        return self._connection

    @property
    def settings(self) -> Settings:
        """The settings of the store."""
        return self._store.settings

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread = threading.Thread(target=self._main, name="quiv-node", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until the node is registered and its control channel is open.

        Raises:
            QuivError: the server refuses this node.

        """
        ready = self._ready.wait(timeout_s)
        if self._failure is not None:
            raise self._failure
        return ready

    def renew_soon(self) -> None:
        """Renew now, not at the next beat."""
        loop, heartbeat = self._loop, self._heartbeat
        if loop is not None and heartbeat is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(heartbeat.wake)

    def stop(self, timeout_s: float) -> None:
        """Retire the node and end the thread."""
        loop, thread = self._loop, self._thread
        if thread is None:
            return
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._stop.set)
        thread.join(timeout_s)

    def hold(self, job_id: str, held: Held) -> None:
        """Renew this job's lease from now on."""
        with self.held_lock:
            self.held[job_id] = held

    def release(self, job_id: str, delivery: int) -> bool:
        """Renew this delivery's lease no more; ``False`` if it was released before."""
        with self.held_lock:
            held = self.held.get(job_id)
            if held is None or held.delivery != delivery:
                return False
            del self.held[job_id]
            return True

    def _main(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            runner.run(self._run())
        self._loop = None

    async def _run(self) -> None:
        store = self._store
        heartbeat = self._heartbeat = Heartbeat(self, store, self._logger)
        control = Control(self, store, self._logger)
        control.start()
        heartbeat.start()
        await self._stop.wait()
        await heartbeat.abort()
        await control.abort()
        with suppress(QuivError):
            await store.partition().retire_node(self.id)
        await store.close()

    def opened(self, connection: int) -> None:
        """Hear from the control service that its channel is open, or (0) broken."""
        self._connection = connection
        self._tell_ready()
        self.renew_soon()

    def registered(self) -> None:
        """Hear from the heartbeat that the node is on the store."""
        self._known = True
        self._tell_ready()
        self.on_registered()

    def _tell_ready(self) -> None:
        if self._known and self._connection:
            self._ready.set()

    def refused(self, error: BaseException) -> None:
        """Hear that the server refuses this node: whoever waits for it is told."""
        if not self._ready.is_set():
            self._failure = error
            self._ready.set()

    def heard(self, channel: str, data: str) -> None:
        """Act on a control message."""
        keys = self._store.keys()
        if channel == keys.wake_channel:
            self.on_wake(int(data))
        elif channel == keys.leadership_channel:
            self.on_free()
        elif data == "claim":
            self.on_claim()
        elif data.startswith("stop "):
            _, job_id, reason = data.split(" ")
            self.stop_job(job_id, StopReason(reason))

    def stop_job(self, job_id: str, reason: StopReason) -> None:
        """Set the stop event of a job that this node runs."""
        with self.held_lock:
            held = self.held.get(job_id)
        if held is not None:
            held.stop.set(reason)


class Control(Service):
    """Listens on the node's control channel, over a connection of its own."""

    name = "control channel"

    def __init__(self, node: NodeLink, store: Store, logger: logging.Logger) -> None:
        super().__init__(store.settings, logger)
        self._node = node
        self._store = store
        self._channel: Channel | None = None

    async def tick(self) -> float:
        """Open the channel if need be, and handle what comes for a while."""
        if self._channel is None:
            keys = self._store.keys()
            channel = self._store.channel()
            self._channel = channel
            await channel.open(
                [keys.node_channel(self._node.id), keys.wake_channel, keys.leadership_channel]
            )
            self._node.opened(channel.number)
        channel = self._channel
        message = await channel.next(_PING_S)
        if message is not None:
            try:
                self._node.heard(message.channel, message.data.decode())
            except ValueError:
                self.logger.warning("control channel: %r is no message of ours", message.data)
        elif monotonic_s() - channel.heard_s > _SILENCE_S:
            # Half open: the network dropped the connection and told neither side.
            msg = f"no answer to a ping in {_SILENCE_S:g} s"
            raise RedisUnavailableError(msg)
        else:
            await channel.ping()
        return 0.0

    def failed(self, error: Exception) -> None:
        """Drop the connection; renew at once, since others see this node gone."""
        broken, self._channel = self._channel, None
        self._node.opened(0)
        if not isinstance(error, RedisUnavailableError):
            self._node.refused(error)
        if broken is not None:
            closing = asyncio.ensure_future(broken.close())
            closing.add_done_callback(lambda _: None)

    async def closed(self) -> None:
        """Close the connection: the node's presence ends here."""
        if self._channel is not None:
            await self._channel.close()


class Heartbeat(Service):
    """Renews the node's lease and its jobs', and registers the node when it is not known."""

    name = "heartbeat"

    def __init__(self, node: NodeLink, store: Store, logger: logging.Logger) -> None:
        super().__init__(store.settings, logger)
        self._node = node
        self._store = store
        self._incarnation = ""
        self._renewed_s = monotonic_s()

    async def tick(self) -> float:
        """Renew once; while the control channel is down, every second."""
        node = self._node
        partition = self._store.partition()
        with node.held_lock:
            held = dict(node.held)
        sent_s = monotonic_s()
        reply = await partition.renew(
            node.id, [(job, item.entry, item.delivery) for job, item in held.items()]
        )
        self._renewed_s = sent_s
        self._store.observe(reply.server_ms, sent_s, self.logger.error)
        if not reply.known or reply.incarnation != self._incarnation:
            await self._register()
        for job_id in reply.lost:
            if job_id in held:
                held[job_id].stop.set(StopReason.LEASE_LOST)
        for job_id, reason in reply.stops.items():
            held[job_id].stop.set(StopReason(reason))
        settings = self.settings
        return settings.heartbeat_s if node.connection else settings.urgent_heartbeat_s

    def failed(self, error: Exception) -> None:
        """Stop jobs whose lease must be over: the work goes on elsewhere."""
        if not isinstance(error, RedisUnavailableError):
            self._node.refused(error)
        silent_s = monotonic_s() - self._renewed_s
        if silent_s * 1000 > self.settings.job_lease_ms:
            with self._node.held_lock:
                held = list(self._node.held.values())
            for item in held:
                item.stop.set(StopReason.LEASE_LOST)

    async def _register(self) -> None:
        record = self._node.record
        self._incarnation = await self._store.partition().register_node(
            record.id,
            record.encode(),
            worker="worker" in record.roles,
            queues=record.queues,
            handlers=record.handlers,
        )
        self._node.registered()


def _nothing() -> None:
    pass


def _ignore(_: int) -> None:
    pass
