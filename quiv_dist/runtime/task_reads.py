"""Reading tasks: the calls that change nothing, and what the others build on."""

from __future__ import annotations

from quiv_dist.core.codec import decode_arguments
from quiv_dist.core.wire import TaskWire
from quiv_dist.exceptions import TaskNotFoundError
from quiv_dist.models import Task
from quiv_dist.runtime.engine import Engine, Reply
from quiv_dist.store.namespace import Store
from quiv_dist.store.partition import Partition
from quiv_dist.store.records import TaskRow


class TaskReads:
    """Read tasks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def get(self, task_id: str) -> Reply:
        """Return a task."""
        _, partition = await self._at(task_id)
        row = await self._read(partition, task_id)
        return Reply(task_model(row.wire, row.args))

    async def find(
        self,
        *,
        include_run_once: bool,
        status: str | None,
        limit: int | None,
        offset: int,
        task_name: str | None,
    ) -> Reply:
        """Return tasks by next run."""
        store = await self._engine.store()
        found: list[Task] = []
        for number in range(store.partitions):
            task_ids = await store.reads(number).task_ids()
            for row in await store.partition(number).read_tasks(task_ids):
                if row is None or (row.wire.run_once and not include_run_once):
                    continue
                if status and row.wire.status != status:
                    continue
                if task_name is not None and row.wire.task_name != task_name:
                    continue
                found.append(task_model(row.wire, row.args))
        found.sort(key=lambda task: task.next_run_at)
        return Reply(found[offset:] if limit is None else found[offset : offset + limit])

    async def _read(self, partition: Partition, task_id: str) -> TaskRow:
        row = (await partition.read_tasks([task_id]))[0]
        if row is None:
            raise not_found(task_id)
        return row

    async def _full(self, task_id: str, wire: TaskWire | None) -> Task:
        """Return a task with its arguments as they are, where an event may leave them out."""
        _, partition = await self._at(task_id)
        row = (await partition.read_tasks([task_id]))[0]
        return task_model(wire, row.args if row is not None else None)

    async def _at(self, task_id: str) -> tuple[Store, Partition]:
        store = await self._engine.store()
        return store, store.partition(store.partition_of_task(task_id))


def task_model(wire: TaskWire | None, args: bytes | None) -> Task:
    """Return the task, with its arguments decoded where they are given."""
    if wire is None:
        raise TaskNotFoundError("the task went away")
    return wire.to_model(None if args is None else decode_arguments(args))


def not_found(task_id: str) -> TaskNotFoundError:
    """Return the error of an unknown id."""
    return TaskNotFoundError(f"task {task_id!r} was not found")
