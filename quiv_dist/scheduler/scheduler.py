"""The composition of the scheduler role."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from quiv_dist.exceptions import QuivError
from quiv_dist.node import NodeLink
from quiv_dist.scheduler.dispatcher import Dispatcher
from quiv_dist.scheduler.elector import Elector
from quiv_dist.scheduler.janitor import Janitor
from quiv_dist.store.namespace import Store


class Scheduler:
    """A candidate for the leadership, on the running event loop."""

    def __init__(self, store: Store, node: NodeLink, logger: logging.Logger) -> None:
        self._loop = asyncio.get_running_loop()
        self.elector = Elector(store, node, logger, on_change=self._leadership_changed)
        self._dispatcher = Dispatcher(store, self.elector, logger)
        self._janitor = Janitor(store, node, self.elector, logger)
        node.on_wake = self._wake
        node.on_free = self._free

    def start(self) -> None:
        """Begin to look for the leadership."""
        self.elector.start()
        self._dispatcher.start()
        self._janitor.start()

    async def stop(self) -> None:
        """Finish the batch under way, give the leadership up at once, end."""
        await self._dispatcher.stop()
        await self._janitor.abort()
        await self.elector.abort()
        with suppress(QuivError):
            await self.elector.resign()

    def _leadership_changed(self, leads: bool) -> None:
        self._dispatcher.forget()
        if leads:
            self._dispatcher.wake()
            self._janitor.wake()

    # Called on the node's thread.

    def _wake(self, due_ms: int) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._dispatcher.due_at, due_ms)

    def _free(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.elector.wake)
