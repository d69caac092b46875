"""The life of an instance: where its server is, what it starts, how it ends.

=================  ==============================================================
thread             what runs there
=================  ==============================================================
``quiv-io``        calls, the event feed, the scheduler role
``quiv-worker``    the worker role: claims and coroutine handlers
``quiv-node``      lease renewal and the control channel
``quiv-listeners`` listeners of events that no call of this process caused
worker threads     functions and isolated coroutine handlers
=================  ==============================================================

Each loop has connections of its own. Nothing starts before the first call that needs it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from quiv_dist import context
from quiv_dist.config import DEFAULT_NAMESPACE, Settings
from quiv_dist.core.wire import Envelope
from quiv_dist.embedded import EmbeddedServer, acquire
from quiv_dist.events.dispatch import Dispatcher
from quiv_dist.events.feed import EventFeed
from quiv_dist.events.listener_thread import ListenerThread
from quiv_dist.events.mainloop import MainLoop, MainLoopWork
from quiv_dist.events.registry import ListenerRegistry
from quiv_dist.exceptions import (
    ConfigurationError,
    QuivError,
    RedisUnavailableError,
    SchedulerStoppedError,
)
from quiv_dist.models import Event
from quiv_dist.node import NodeLink, NodeRecord
from quiv_dist.runtime.iothread import LoopThread, new_isolated_loop
from quiv_dist.runtime.waits import Waits
from quiv_dist.scheduler.scheduler import Scheduler
from quiv_dist.store.namespace import Store
from quiv_dist.store.probe import Role, probe
from quiv_dist.worker.registry import HandlerRegistry
from quiv_dist.worker.worker import Worker, WorkerOptions

T = TypeVar("T")
# What says that a task will have no further run.
GONE = (Event.TASK_ENDED, Event.TASK_REMOVED)
ROLES = ("scheduler", "worker", "listener")
# Tasks that ended and whose last progress may still be on its way.
MOST_LATE_CALLBACKS = 1_000
# These need more of the server than every instance does.
PROBED: tuple[Role, ...] = ("scheduler", "worker")


@dataclass(frozen=True)
class EngineOptions:
    """What an instance was made with. ``redis_url=None``: the embedded server of this folder."""

    redis_url: str | None
    namespace: str = DEFAULT_NAMESPACE
    roles: frozenset[str] = frozenset(ROLES)
    app: str | None = None
    app_version: str | None = None
    worker: WorkerOptions = field(default_factory=WorkerOptions)
    settings: Settings = field(default_factory=Settings)


class Reply(NamedTuple):
    """What a call returns, and the events that its caller's thread tells listeners of."""

    value: Any
    events: tuple[tuple[Event, tuple[Any, ...]], ...] = ()


class Engine:
    """One life of an instance: from its first call to its shutdown, in one process."""

    def __init__(
        self,
        options: EngineOptions,
        handlers: HandlerRegistry,
        listeners: ListenerRegistry,
        main_loop: MainLoop,
        logger: logging.Logger,
    ) -> None:
        self.options = options
        self.logger = logger
        self.handlers = handlers
        self.listeners = listeners
        self.main_loop = main_loop
        self.main_loop_work = MainLoopWork()
        self.pid = os.getpid()
        self.record = NodeRecord(app=options.app, app_version=options.app_version)
        self.listener_thread = ListenerThread(logger)
        self.dispatcher = Dispatcher(listeners, main_loop, self.listener_thread, logger)
        self.progress_callbacks: dict[str, Callable[..., Any]] = {}
        self._late_callbacks: OrderedDict[str, Callable[..., Any]] = OrderedDict()
        self.waits = Waits()
        self.io = LoopThread("quiv-io")
        self.worker_thread = LoopThread("quiv-worker")
        self.node: NodeLink | None = None
        self.worker: Worker | None = None
        self.scheduler: Scheduler | None = None
        self.on_registered: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.on_task_gone: Callable[[str], None] = _nothing
        self._store: Store | None = None
        self._worker_store: Store | None = None
        self._feed: EventFeed | None = None
        self._embedded: EmbeddedServer | None = None
        self._connecting = asyncio.Lock()
        self._noding = asyncio.Lock()
        self._starting = asyncio.Lock()
        self._lock = threading.Lock()
        self._started = False
        self._stopped = False

    def adopt(self, options: EngineOptions) -> None:
        """Go on with other options, before the start.

        Raises:
            ConfigurationError: they name another server or namespace than is in use.

        """
        old = self.options
        if (options.redis_url, options.namespace) != (old.redis_url, old.namespace):
            msg = (
                f"namespace={old.namespace!r} on its own server is in use already, by a call made"
                " while the application was imported: name server and namespace in one place, or"
                " make that call later"
            )
            raise ConfigurationError(msg)
        self.options = options
        self.record.app, self.record.app_version = options.app, options.app_version

    # What calls need ------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether the instance was started and not shut down."""
        return self._started and not self._stopped

    @property
    def stopped(self) -> bool:
        """Whether the instance was shut down."""
        return self._stopped

    @property
    def ready(self) -> bool:
        """Whether the node is registered and its control channel is open."""
        return self.started and self.node is not None and self.node.connection > 0

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Any:
        """Run a call on the I/O loop; return its concurrent future."""
        if self._stopped:
            coroutine.close()
            msg = "this instance was shut down"
            raise SchedulerStoppedError(msg)
        return self.io.submit(coroutine)

    async def store(self) -> Store:
        """Return the connected store of the I/O loop."""
        async with self._connecting:
            if self._store is None:
                store = await self._new_store()
                try:
                    await store.open(role="client")
                except BaseException:
                    await store.close()
                    raise
                self._store = store
            return self._store

    async def feed(self) -> EventFeed:
        """Return the running event feed."""
        store = await self.store()
        if self._feed is None:
            self.listener_thread.start()
            self._feed = EventFeed(
                store, self.logger, self._deliver, backlog=lambda: self.listener_thread.backlog
            )
            self._feed.start()
        return self._feed

    async def cover(self, *kinds: Event) -> None:
        """Return when events of these kinds, stored from now on, will be heard."""
        await (await self.feed()).cover(kinds)

    async def link(self) -> NodeLink:
        """Return this instance's node, registered on the store."""
        async with self._noding:
            if self.node is None:
                await self.store()
                store = await self._new_store()
                self.record.queues = (f"@{self.record.id}",)
                node = NodeLink(store, self.record, self.logger)
                node.on_registered = self._registered
                node.start()
                limit = self.options.settings.command_timeout_s
                if not await asyncio.to_thread(node.wait_ready, limit):
                    node.stop(0)
                    msg = f"the node could not register within {limit:g} s"
                    raise RedisUnavailableError(msg)
                self.node = node
            return self.node

    async def serve(self, *names: str) -> None:
        """Make the handlers of these names known as served by this node, if it is a worker."""
        if self.worker is None or self.node is None:
            return
        if set(names) <= set(self.record.handlers):
            return
        self.record.handlers = tuple(sorted({*self.record.handlers, *names}))
        await self._announce()

    async def _announce(self) -> None:
        record = self.record
        await (
            (await self.store())
            .partition()
            .register_node(
                record.id,
                record.encode(),
                worker="worker" in record.roles,
                queues=record.queues,
                handlers=record.handlers,
            )
        )

    async def _new_store(self) -> Store:
        options = self.options
        url = options.redis_url
        if url is None:
            if self._embedded is None:
                self._embedded = await asyncio.to_thread(acquire, Path.cwd())
            url = self._embedded.url
        return Store(url, options.namespace, options.settings)

    # Start and end --------------------------------------------------------------------------------

    async def start(self, roles: frozenset[str]) -> None:
        """Run the roles of this instance."""
        async with self._starting:
            if not self._started:
                await self._start(roles)
                self._started = True

    async def _start(self, roles: frozenset[str]) -> None:
        store = await self.store()
        await self._probe(store, roles)
        self.record.roles = tuple(role for role in ROLES if role in roles)
        if "worker" in roles:
            self.record.handlers = tuple(self.handlers.names())
        node = await self.link()
        if "worker" in roles:
            self.record.queues = (f"@{self.record.id}", *self.options.worker.queues)
        if roles & {"worker", "scheduler"}:
            await self._announce()
        kinds = set(self.listeners.kinds())
        if self.progress_callbacks:
            # Those of the parent process, after a fork: nobody has subscribed for them here.
            kinds |= {Event.JOB_PROGRESS, *GONE}
        if kinds:
            await self.cover(*kinds)
        if "worker" in roles:
            await asyncio.wrap_future(self.worker_thread.submit(self._start_worker(node)))
        if "scheduler" in roles:
            self.scheduler = Scheduler(store, node, self.logger)
            self.scheduler.start()

    async def _probe(self, store: Store, roles: frozenset[str]) -> None:
        """Try what the roles need, before anything of this instance is on the store."""
        for role in PROBED:
            if role in roles:
                await probe(store, role)

    async def _start_worker(self, node: NodeLink) -> None:
        store = await self._new_store()
        await store.open()
        self._worker_store = store
        self.worker = Worker(
            store,
            node,
            self.handlers,
            self.options.worker,
            self.logger,
            job_context=partial(context.job_context, self),
            new_loop=new_isolated_loop,
        )
        self.worker.start()

    async def drained(self) -> None:
        """Wait until the worker's queues are empty and nothing runs."""
        if self.worker is None:
            msg = "roles: this instance runs no worker"
            raise ConfigurationError(msg)
        await asyncio.wrap_future(self.worker_thread.submit(self.worker.drained()))

    async def stop(self, timeout_s: float | None) -> None:
        """Drain and end everything but the I/O thread itself."""
        grace_s = 1e9 if timeout_s is None else timeout_s
        if self.scheduler is not None:
            await self.scheduler.stop()
        if self.worker is not None:
            stopping = self.worker_thread.submit(self._stop_worker(self.worker, grace_s))
            await asyncio.wrap_future(stopping)
        if self.node is not None:
            limit = self.options.settings.command_timeout_s
            await asyncio.to_thread(self.node.stop, limit)
        self.waits.fail_all(SchedulerStoppedError("the instance was shut down"))
        if self._feed is not None:
            await self._feed.stop()
        if self._store is not None:
            await self._store.close()

    async def _stop_worker(self, worker: Worker, grace_s: float) -> None:
        await worker.stop(grace_s)
        if self._worker_store is not None:
            await self._worker_store.close()

    def shut_down(self, timeout_s: float | None) -> None:
        """End this life, from any thread that is none of its own."""
        with self._lock:
            if self._stopped:
                return
            try:
                stopping = self.submit(self.stop(timeout_s))
            finally:
                self._stopped = True
        with suppress(QuivError):
            stopping.result()
        self.worker_thread.stop(1.0)
        self.io.stop(1.0)
        self.listener_thread.stop(1.0)
        if self._embedded is not None:
            self._embedded.close()

    # Events ---------------------------------------------------------------------------------------

    def _registered(self) -> None:
        """Hear (on the node's thread) that the node is on the store, perhaps a new one."""
        worker = self.worker
        if worker is not None:
            worker.wake()
        if self.on_registered is not None and not self._stopped:
            with suppress(QuivError, RuntimeError):
                self.submit(self.on_registered()).add_done_callback(self._judge_registered)

    def _judge_registered(self, done: Future[None]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self.logger.error("tasks that the server had lost could not be stored again: %s", error)

    def _deliver(self, envelope: Envelope) -> None:
        """Pass an event from the feed on to the listener thread."""
        self.listener_thread.post(partial(self._dispatch, envelope))

    def _dispatch(self, envelope: Envelope) -> None:
        payload = envelope.payload()
        if envelope.event is Event.JOB_PROGRESS and envelope.progress and envelope.task:
            task_id = envelope.task.id
            callback = self.progress_callbacks.get(task_id) or self._late_callbacks.get(task_id)
            if callback is not None:
                progress = envelope.progress
                label = f"Progress callback for task '{envelope.task.id}'"
                self.dispatcher.call(callback, label, *progress.args, **progress.kwargs)
        self.dispatcher.dispatch(envelope.event, *payload)
        if envelope.event in GONE and envelope.task is not None:
            self._expect_late_progress(envelope.task.id)
            self.on_task_gone(envelope.task.id)
        self.waits.heard(envelope.event, payload)

    def _expect_late_progress(self, task_id: str) -> None:
        """Keep the callback of a task that is gone for a while.

        Progress is not in the event log: when the feed reads up there, the end of a task comes
        before progress that was published earlier and waits among the live messages.
        """
        callback = self.progress_callbacks.get(task_id)
        if callback is not None:
            self._late_callbacks[task_id] = callback
            if len(self._late_callbacks) > MOST_LATE_CALLBACKS:
                self._late_callbacks.popitem(last=False)


def _nothing(_: str) -> None:
    pass
