"""Futures that wait for jobs to end.

They wake by event, on the listener thread, after the event's own listeners were called; an event
that a broken connection missed comes from the log.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from quiv_dist.exceptions import TaskNotFoundError
from quiv_dist.models import Event, Job, Task

ENDS = (Event.JOB_COMPLETED, Event.JOB_FAILED, Event.JOB_CANCELLED)


class Waits:
    """Who waits for which job, task or run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, list[Future[Job]]] = defaultdict(list)
        self._tasks: dict[str, list[Future[Job]]] = defaultdict(list)
        self._runs: dict[str, list[Future[Job]]] = defaultdict(list)
        self._over: Exception | None = None

    def for_job(self, job_id: str) -> Future[Job]:
        """Return a future of the end of a job."""
        return self._add(self._jobs, job_id)

    def for_task(self, task_id: str) -> Future[Job]:
        """Return a future of the end of the next job of a task."""
        return self._add(self._tasks, task_id)

    def for_run(self, run_id: str) -> Future[Job]:
        """Return a future that resolves whenever a job of a run ends."""
        return self._add(self._runs, run_id)

    def forget(self, future: Future[Job]) -> None:
        """Wait no more."""
        with self._lock:
            for table in (self._jobs, self._tasks, self._runs):
                for key in [key for key, futures in table.items() if future in futures]:
                    table[key].remove(future)
                    if not table[key]:
                        del table[key]

    def heard(self, event: Event, payload: tuple[Any, ...]) -> None:
        """Wake those whose wait an event ends."""
        if event in ENDS:
            job: Job = payload[1]
            with self._lock:
                futures = (
                    self._jobs.pop(job.id, [])
                    + self._tasks.pop(job.task_id, [])
                    + self._runs.pop(job.run_id, [])
                )
            for future in futures:
                _resolve(future, job)
        elif event is Event.TASK_REMOVED:
            task: Task = payload[0]
            if task.status != "running":
                self.removed(task.id)

    def removed(self, task_id: str) -> None:
        """Tell those who wait for a task with no live run that none will come."""
        with self._lock:
            futures = self._tasks.pop(task_id, [])
        error = TaskNotFoundError(f"task {task_id!r} was removed before a job of it ended")
        for future in futures:
            _reject(future, error)

    def fail_all(self, error: Exception) -> None:
        """Tell everybody, and whoever asks later, that nothing will come any more."""
        with self._lock:
            self._over = error
            tables = (self._jobs, self._tasks, self._runs)
            futures = [item for table in tables for found in table.values() for item in found]
            for table in tables:
                table.clear()
        for future in futures:
            _reject(future, error)

    def _add(self, table: dict[str, list[Future[Job]]], key: str) -> Future[Job]:
        future: Future[Job] = Future()
        with self._lock:
            # Checked under the lock: who comes after fail_all() took the tables is told here.
            if self._over is not None:
                raise self._over
            table[key].append(future)
        return future


def _resolve(future: Future[Job], job: Job) -> None:
    with suppress(InvalidStateError):
        future.set_result(job)


def _reject(future: Future[Job], error: Exception) -> None:
    with suppress(InvalidStateError):
        future.set_exception(error)
