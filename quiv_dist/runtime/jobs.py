"""Calls on jobs: read, cancel, submit, wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from quiv_dist.core import ids
from quiv_dist.core.jobs import is_final
from quiv_dist.core.wire import to_datetime, to_ms
from quiv_dist.exceptions import ConfigurationError, JobNotFoundError, TaskNotFoundError
from quiv_dist.models import Event, Job, JobStatus, QuivStats
from quiv_dist.runtime.engine import Engine, Reply
from quiv_dist.runtime.options import TaskOptions
from quiv_dist.runtime.waits import ENDS
from quiv_dist.store.records import JobRow, Submission

_ORDERS = ("started_at", "ended_at")


@dataclass(frozen=True)
class JobQuery:
    """Which jobs, in which order. Times are inclusive; a naive one is UTC."""

    status: str | None = None
    task_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    order_by: str = "started_at"
    descending: bool = True
    limit: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        if self.order_by not in _ORDERS:
            msg = f"order_by={self.order_by!r} is not accepted: give one of {_ORDERS}"
            raise ConfigurationError(msg)
        bounds: dict[str, object] = {"since": self.since, "until": self.until}
        for name, value in bounds.items():
            if value is not None and not isinstance(value, datetime):
                msg = f"{name}={value!r} is not accepted: give a datetime (a naive one is UTC)"
                raise ConfigurationError(msg)

    def wants(self, job: Job) -> bool:
        """Tell whether a job matches."""
        return (not self.status or job.status == self.status) and (
            self.task_id is None or job.task_id == self.task_id
        )

    def key(self, job: Job) -> Any:
        """Return what a job is sorted by; jobs that have not ended sort first."""
        value = job.started_at if self.order_by == "started_at" else job.ended_at
        return (value is not None, value or job.started_at)


class JobCalls:
    """Read, cancel, submit and wait for jobs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def row(self, job_id: str) -> JobRow:
        """Return a job with its result."""
        store = await self._engine.store()
        partition = store.partition(store.partition_of_job(job_id))
        row = (await partition.read_jobs([job_id]))[0]
        if row is None:
            msg = f"job {job_id!r} was not found"
            raise JobNotFoundError(msg)
        return row

    async def get(self, job_id: str) -> Reply:
        """Return a job."""
        return Reply((await self.row(job_id)).wire.to_model())

    async def find(self, query: JobQuery) -> Reply:
        """Return jobs."""
        store = await self._engine.store()
        since = None if query.since is None else to_ms(query.since)
        until = None if query.until is None else to_ms(query.until)
        found: list[Job] = []
        for number in range(store.partitions):
            job_ids = await store.reads(number).job_ids(
                newest_first=query.descending, since_ms=since, until_ms=until
            )
            rows = await store.partition(number).read_jobs(job_ids)
            jobs = (row.wire.to_model() for row in rows if row is not None)
            found += [job for job in jobs if query.wants(job)]
        found.sort(key=query.key, reverse=query.descending)
        end = None if query.limit is None else query.offset + query.limit
        return Reply(found[query.offset : end])

    async def cancel(self, job_id: str) -> Reply:
        """Cancel a job; ``False`` for an unknown or finished one."""
        store = await self._engine.store()
        partition = store.partition(store.partition_of_job(job_id))
        return Reply(await partition.cancel(job_id, call=ids.new_id()))

    async def submit(self, items: Sequence[tuple[TaskOptions, str | None]]) -> Reply:
        """Enqueue runs (options and idempotency key); return their run and job ids."""
        store = await self._engine.store()
        now_ms = store.clock.now_ms()
        submissions = []
        for options, key in items:
            run = ids.run_id(
                0, store.namespace, "submit", options.handler if key else "", "",
                key or ids.new_id(),
            )  # fmt: skip
            submissions.append(
                Submission(
                    ids.job_id(run, 1),
                    run,
                    options.task_name,
                    options.handler,
                    options.queue,
                    options.priority,
                    options.spec().encode(),
                    options.arguments,
                    options.max_crashes,
                    _snapshot(options, run, now_ms),
                )
            )
        await store.partition().submit(submissions, call=ids.new_id())
        return Reply([(item.run_id, item.job_id) for item in submissions])

    # Wait -----------------------------------------------------------------------------------------

    async def wait_for_job(self, job_id: str, timeout_s: float | None) -> Reply:
        """Return a job when it has ended."""
        future = self._engine.waits.for_job(job_id)
        try:
            await self._engine.cover(*ENDS)
            job = (await self.row(job_id)).wire.to_model()
            if not is_final(job.status):
                job = await _within(future, timeout_s, f"job {job_id!r}")
            return Reply(job)
        finally:
            self._engine.waits.forget(future)

    async def wait_for_task(self, task_id: str, timeout_s: float | None) -> Reply:
        """Return the next job of a task to end, or the last one of a task that ended itself."""
        future = self._engine.waits.for_task(task_id)
        try:
            await self._engine.cover(*ENDS, Event.TASK_REMOVED)
            store = await self._engine.store()
            number = store.partition_of_task(task_id)
            if (await store.partition(number).read_tasks([task_id]))[0] is None:
                last = await store.reads(number).last_job_of_ended(task_id)
                if last is None:
                    msg = f"task {task_id!r} was not found"
                    raise TaskNotFoundError(msg)
                return await self.get(last)
            return Reply(await _within(future, timeout_s, f"task {task_id!r}"))
        finally:
            self._engine.waits.forget(future)

    async def wait_for_run(self, run_id: str, timeout_s: float | None) -> JobRow:
        """Return the last job of a run, retries included, when the run has ended."""
        attempt = 1
        async with asyncio.timeout(timeout_s):
            await self._engine.cover(*ENDS)
            while True:
                job_id = ids.job_id(run_id, attempt)
                await self.wait_for_job(job_id, None)
                row = await self.row(job_id)
                if row.wire.status != JobStatus.FAILED or not await self._retried(run_id, attempt):
                    return row
                attempt += 1

    async def _retried(self, run_id: str, attempt: int) -> bool:
        try:
            await self.row(ids.job_id(run_id, attempt + 1))
        except JobNotFoundError:
            return False
        return True

    async def stats(self) -> Reply:
        """Return a snapshot of this instance and the namespace."""
        engine = self._engine
        store = await engine.store()
        counts: dict[str, int] = {}
        next_ms: int | None = None
        jobs = 0
        for number in range(store.partitions):
            reads = store.reads(number)
            for row in await store.partition(number).read_tasks(await reads.task_ids()):
                if row is not None:
                    counts[row.wire.status] = counts.get(row.wire.status, 0) + 1
            due = await reads.next_due_ms()
            next_ms = due if next_ms is None or (due is not None and due < next_ms) else next_ms
            jobs += await reads.job_count()
        active = 0 if engine.worker is None else engine.worker.running
        size = engine.options.worker.threads
        return Reply(
            QuivStats(
                active_jobs=active,
                pool_size=size,
                pool_utilization=active / size,
                tasks_by_status=counts,
                next_run_at=None if next_ms is None else to_datetime(next_ms),
                job_history_count=jobs,
                loop_alive=engine.started,
            )
        )


async def _within(future: Future[Job], timeout_s: float | None, what: str) -> Job:
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        msg = f"{what} did not finish within {timeout_s} s"
        raise TimeoutError(msg) from None


def _snapshot(options: TaskOptions, run: str, now_ms: int) -> bytes:
    return b'{%b,"status":"running","next_run_at_ms":%d,"retry_attempt":0}' % (
        options.static(run).members(),
        now_ms,
    )
