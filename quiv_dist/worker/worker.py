"""The composition of the worker role: claim, run, finish, and drain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from quiv_dist.core import ids
from quiv_dist.core.retry import retry_delay_ms
from quiv_dist.core.spec import JobSpec
from quiv_dist.core.stop import StopEvent
from quiv_dist.exceptions import ConfigurationError
from quiv_dist.models import StopReason
from quiv_dist.node import Held, NodeLink
from quiv_dist.store.keys import PRIORITIES
from quiv_dist.store.namespace import Store
from quiv_dist.store.records import Claimed, Finish
from quiv_dist.worker.consumer import Consumer
from quiv_dist.worker.execution import Ended, Execution
from quiv_dist.worker.executors import Executors, JobContextFactory
from quiv_dist.worker.finisher import Finisher
from quiv_dist.worker.progress import ProgressSender
from quiv_dist.worker.registry import HandlerRegistry


@dataclass(frozen=True)
class WorkerOptions:
    """``concurrency`` coroutines on the loop and ``threads`` threads run at once at most."""

    queues: tuple[str, ...] = ("default",)
    concurrency: int = 100
    threads: int = 10


@dataclass(frozen=True)
class _Delivery:
    claimed: Claimed
    progress: ProgressSender | None


class Worker:
    """Runs jobs on the running event loop and in threads.

    A job is claimed only while there is room for it, whichever kind it turns out to be: a worker
    whose threads are all busy and that serves functions claims nothing until one is free.
    """

    def __init__(
        self,
        store: Store,
        node: NodeLink,
        registry: HandlerRegistry,
        options: WorkerOptions,
        logger: logging.Logger,
        *,
        job_context: JobContextFactory,
        new_loop: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._node = node
        self._registry = registry
        self._options = options
        self._logger = logger
        self._deliveries: dict[Execution, _Delivery] = {}
        self._busy = {"async": 0, "thread": 0}
        self._draining = False
        # How many deliveries have come, ever.
        self._started = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._executors = Executors(
            loop=self._loop,
            threads=options.threads,
            logger=logger,
            on_ended=self._ended,
            job_context=job_context,
            new_loop=new_loop,
        )
        self._finisher = Finisher(store, node, logger)
        self._consumer = Consumer(
            store, node, logger, streams=self.streams(), free=self._free, start=self._start
        )
        node.on_claim = self.wake

    @property
    def running(self) -> int:
        """How many jobs run here now."""
        return len(self._deliveries)

    def streams(self) -> Sequence[tuple[str, str]]:
        """Return the (queue, priority) pairs this worker reads: queues in the order given."""
        queues = self._options.queues
        pairs = [(queue, priority) for queue in queues for priority in PRIORITIES]
        return [(f"@{self._node.id}", "normal"), *pairs]

    def start(self) -> None:
        """Begin to claim."""
        self._finisher.start()
        self._consumer.start()

    async def drained(self) -> None:
        """Wait until the streams are empty and nothing runs.

        What the last job enqueued counts, so only a look that began after its end was recorded,
        and before which nothing else started, is believed.
        """
        while True:
            await self._idle.wait()
            await self._finisher.flushed()
            started = self._started
            await self._consumer.emptied()
            if self._started == started:
                return

    async def stop(self, grace_s: float) -> None:
        """Drain: claim no more, ask handlers to stop, wait, hand back what outlasts the grace."""
        self._draining = True
        await self._consumer.stop()
        self._executors.stop_all(StopReason.SHUTDOWN)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        if self._deliveries:
            self._logger.warning(
                "%d jobs outlasted the shutdown grace of %g s and are handed back",
                len(self._deliveries), grace_s,
            )  # fmt: skip
        self._executors.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._store.settings.command_timeout_s):
                await self._finisher.flushed()
        await self._finisher.abort()

    # Claimed --------------------------------------------------------------------------------------

    def _free(self) -> int:
        if self._draining:
            return 0
        options, busy = self._options, self._busy
        free = options.concurrency - busy["async"]
        if self._registry.needs_threads:
            free = min(free, options.threads - busy["thread"])
        return free

    def _start(self, claimed: Claimed) -> None:
        self._started += 1
        stop = StopEvent()
        self._node.hold(claimed.job_id, Held(claimed.entry, claimed.delivery, stop))
        handler = self._registry.get(claimed.handler)
        if handler is None:
            self._fail(claimed, f"handler {claimed.handler} went away from this worker")
            return
        try:
            spec = JobSpec.decode(claimed.spec)
        except ConfigurationError as error:
            self._fail(claimed, str(error))
            return
        progress = None
        if "progress_hook" in handler.injectable:
            progress = ProgressSender(
                self._store.partition(), self._loop, self._logger,
                node_id=self._node.id, job_id=claimed.job_id, delivery=claimed.delivery,
            )  # fmt: skip
        execution = Execution(
            job_id=claimed.job_id,
            task_name=claimed.task_name,
            handler=handler,
            args_bytes=claimed.args,
            spec=spec,
            stop=stop,
            progress=progress or _no_progress,
        )
        self._deliveries[execution] = _Delivery(claimed, progress)
        self._busy["async" if execution.kind() == "async" else "thread"] += 1
        self._idle.clear()
        self._executors.start(execution)

    def _fail(self, claimed: Claimed, error: str) -> None:
        self._logger.error("job %s: %s", claimed.job_id, error)
        self._finisher.add(
            Finish(claimed.job_id, claimed.entry, claimed.delivery, "failed", 0.0, error)
        )

    # Ended ----------------------------------------------------------------------------------------

    def _ended(self, execution: Execution, ended: Ended) -> None:
        progress = self._deliveries[execution].progress
        if progress is not None and progress.pending:
            # Until its last progress has gone out the job counts as running: a drain waits.
            self._loop.create_task(self._end_after(progress, execution, ended))
        else:
            self._end(execution, ended)

    async def _end_after(
        self, progress: ProgressSender, execution: Execution, ended: Ended
    ) -> None:
        await progress.flush()
        self._end(execution, ended)

    def _end(self, execution: Execution, ended: Ended) -> None:
        claimed = self._deliveries.pop(execution).claimed
        self._busy["async" if execution.kind() == "async" else "thread"] -= 1
        if not self._deliveries:
            self._idle.set()
        self._consumer.wake()
        if ended.outcome == "handback" and claimed.handler.startswith("pinned:"):
            # Nobody else can run it: its handler goes with this process.
            ended = ended._replace(outcome="cancelled")
        self._finisher.add(
            Finish(
                claimed.job_id,
                claimed.entry,
                claimed.delivery,
                ended.outcome,
                ended.duration_ms,
                ended.error,
                self._retry(claimed, execution.spec, ended),
                ended.result,
            )
        )

    def _retry(self, claimed: Claimed, spec: JobSpec, ended: Ended) -> tuple[str, int] | None:
        if ended.outcome != "failed" or claimed.attempt > spec.max_retries:
            return None
        if claimed.handler.startswith("pinned:") and self._draining:
            return None
        delay = retry_delay_ms(claimed.attempt, spec.retry_backoff_ms, spec.retry_backoff_max_ms)
        return ids.job_id(claimed.run_id, claimed.attempt + 1), delay

    def wake(self) -> None:
        """Look for work now. Called on any thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._consumer.wake)


def _no_progress(*_args: object, **_kwargs: object) -> None:
    """Stand in for the hook of a handler that takes none."""
