"""One partition of a namespace: every operation as a typed call.

Each call is one script, so one atomic step. All of them may be sent again after a connection
broke in the middle: a second application is refused or changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from quiv_dist.config import Settings
from quiv_dist.store import replies
from quiv_dist.store.keys import Keys
from quiv_dist.store.records import (
    Claimed,
    Definition,
    Delivered,
    Due,
    Finish,
    Fire,
    JobRow,
    LeaseReply,
    NextTick,
    NodeRow,
    RenewReply,
    Submission,
    TaskReply,
    TaskRow,
)

# Partition's keys, script, arguments, and whether to send it again after a lost reply.
RunScript = Callable[[Keys, str, list[Any], bool], Awaitable[Any]]

# The most items that one call of a batch script takes.
MOST_ITEMS = 200


def _or_now(ms: int | None) -> str | int:
    return "now" if ms is None else ms


def _or_blank(ms: int | None) -> str | int:
    return "" if ms is None or ms < 0 else ms


class Partition:
    """The operations of one partition."""

    def __init__(self, keys: Keys, run: RunScript, settings: Settings) -> None:
        self.keys = keys
        self._run_script = run
        self._settings = settings

    async def _run(self, name: str, *args: Any) -> Any:
        return await self._run_script(self.keys, name, list(args), True)

    # Tasks, as users write them ---------------------------------------------------------------

    async def put_task(
        self,
        task_id: str,
        definition: Definition,
        tick: NextTick,
        *,
        if_exists: str,
        read: TaskRow | None,
        incarnation: str,
        call: str,
    ) -> TaskReply:
        """Create a task or replace its definition; ``STALE`` asks for a fresh read."""
        return replies.task_reply(
            await self._run(
                "put_task",
                task_id,
                if_exists,
                read.revision if read else "",
                _or_blank(read.due_ms if read else None),
                incarnation,
                _or_now(tick.nominal_ms),
                _or_now(tick.due_ms),
                _or_now(tick.anchor_ms),
                definition.fingerprint,
                call,
                *definition.pairs(),
            )
        )

    async def update_task(
        self,
        task_id: str,
        read: TaskRow,
        definition: Definition,
        tick: NextTick | None,
        *,
        call: str,
    ) -> TaskReply:
        """Change a task; ``tick`` moves its next run, ``None`` leaves it alone."""
        moved: list[Any] = ["", "", ""]
        if tick is not None:
            moved = [_or_now(tick.nominal_ms), _or_now(tick.due_ms), _or_now(tick.anchor_ms)]
        return replies.task_reply(
            await self._run(
                "update_task",
                task_id,
                read.revision,
                _or_blank(read.due_ms),
                *moved,
                call,
                *definition.pairs(),
                "fingerprint",
                definition.fingerprint,
            )
        )

    async def pause_task(
        self, task_id: str, *, reason: str, actor: str, call: str, revision: str = ""
    ) -> TaskReply:
        """Pause a task; with ``revision``, only if it still is that one."""
        return replies.task_reply(
            await self._run("pause_task", task_id, reason, actor, call, revision)
        )

    async def resume_task(
        self,
        task_id: str,
        *,
        delay_ms: int,
        tick: NextTick | None,
        call: str,
        revision: str = "",
    ) -> TaskReply:
        """Resume a task at now + ``delay_ms``, or at ``tick``, computed from ``revision``."""
        nominal = _or_blank(tick.nominal_ms if tick else None)
        due = _or_blank(tick.due_ms if tick else None)
        return replies.task_reply(
            await self._run("resume_task", task_id, delay_ms, nominal, due, call, revision)
        )

    async def remove_task(self, task_id: str, *, call: str) -> TaskReply:
        """Remove a task, cancel its queued runs, ask its running ones to stop."""
        retention = self._settings.history_retention_ms
        return replies.task_reply(await self._run("remove_task", task_id, retention, call))

    async def run_now(self, task_id: str, *, run_id: str, job_id: str, call: str) -> str:
        """Run a task now; the reply's word says whether it may."""
        return replies.text((await self._run("run_now", task_id, run_id, job_id, call))[0])

    async def read_tasks(self, task_ids: Sequence[str]) -> list[TaskRow | None]:
        """Read tasks, ``None`` where there is none."""
        rows: list[TaskRow | None] = []
        for chunk in _chunks(task_ids):
            reply = await self._run("read_tasks", *chunk)
            rows += [replies.task_row(row) if row[0] else None for row in reply]
        return rows

    # Jobs, as users see them ------------------------------------------------------------------

    async def read_jobs(self, job_ids: Sequence[str]) -> list[JobRow | None]:
        """Read jobs, ``None`` where there is none."""
        rows: list[JobRow | None] = []
        for chunk in _chunks(job_ids):
            reply = await self._run("read_jobs", *chunk)
            rows += [replies.job_row(row) if row[0] else None for row in reply]
        return rows

    async def submit(self, submissions: Sequence[Submission], *, call: str) -> list[bool]:
        """Enqueue submissions; ``False`` for one that already is there."""
        accepted: list[bool] = []
        for chunk in _chunks(submissions):
            flat = [value for item in chunk for value in item]
            accepted += [word == b"OK" for word in await self._run("submit", call, *flat)]
        return accepted

    async def cancel(self, job_id: str, *, call: str) -> bool:
        """Cancel a job; ``False`` for an unknown or finished one."""
        retention = self._settings.history_retention_ms
        return bool(await self._run("cancel", job_id, retention, call))

    # The leader -------------------------------------------------------------------------------

    async def elect(self, node_id: str, *, lease_ms: int, gone: str = "") -> LeaseReply:
        """Take the leader lease if it is free or over, or from exactly the holder ``gone``."""
        return replies.lease_reply(await self._run("elect", node_id, lease_ms, gone))

    async def renew_leader(self, holder: str, *, lease_ms: int) -> LeaseReply:
        """Extend the leader lease."""
        return replies.lease_reply(await self._run("renew_leader", holder, lease_ms))

    async def resign(self, holder: str) -> bool:
        """Give the leader lease up; ``False`` if it was not this holder's."""
        return bool(await self._run("resign", holder))

    async def peek_due(self, *, ahead_ms: int, most: int) -> tuple[int, list[Due]]:
        """Return the server's time and what is due until ``ahead_ms`` from it, soonest first."""
        reply = await self._run("peek_due", ahead_ms, most)
        return int(reply[0]), [replies.due(item) for item in reply[1:]]

    async def fire(self, holder: str, fires: Sequence[Fire]) -> list[str]:
        """Turn due members into jobs; one word an item says what became of it.

        Raises:
            LeadershipLostError: ``holder`` does not lead any more; nothing was written.

        """
        flat: list[Any] = [holder, self._settings.history_retention_ms]
        for item in fires:
            passed = item.passed or ("", "", "", "")
            flat += [
                item.member,
                item.revision,
                item.due_ms,
                _or_blank(item.fire_ms),
                item.run_id,
                item.job_id,
                item.newest_ms,
                _or_blank(item.next_nominal_ms),
                _or_blank(item.next_due_ms),
                *passed,
            ]
        return [replies.text(word) for word in await self._run("fire", *flat)]

    # Workers and nodes ------------------------------------------------------------------------

    async def claim(
        self,
        node_id: str,
        *,
        slots: int,
        streams: Iterable[tuple[str, str]],
        delivered: Iterable[Delivered] = (),
    ) -> tuple[int, list[Claimed]]:
        """Take up to ``slots`` jobs (and those already delivered); server's time and jobs.

        Never sent again by itself: the jobs of a lost reply would be nobody's until their leases
        end. Whoever hears of the loss calls ``surrender``.

        Raises:
            UnregisteredError: the node has no record; what was delivered to it stays so.

        """
        pairs = list(streams)
        settings = self._settings
        args: list[Any] = [
            node_id,
            slots,
            settings.job_lease_ms,
            settings.history_retention_ms,
            len(pairs),
            *(value for pair in pairs for value in pair),
            *(value for item in delivered for value in item),
        ]
        reply = await self._run_script(self.keys, "claim", args, False)
        return int(reply[0]), [replies.claimed(row) for row in reply[1:]]

    async def finish(self, node_id: str, ends: Sequence[Finish]) -> list[str]:
        """Record ends of deliveries: ``OK``, ``RETRY`` or ``REFUSED`` an item."""
        words: list[str] = []
        for chunk in _chunks(ends):
            flat: list[Any] = [node_id, self._settings.history_retention_ms]
            for end in chunk:
                retry_id, delay_ms = end.retry or ("", 0)
                flat += [
                    end.job_id,
                    end.entry,
                    end.delivery,
                    end.outcome,
                    f"{end.duration_ms:.3f}",
                    # A file name that is no text may be in it, as surrogates.
                    end.error.encode("utf-8", "backslashreplace"),
                    retry_id,
                    delay_ms,
                    end.result,
                ]
            words += [replies.text(word) for word in await self._run("finish", *flat)]
        return words

    async def surrender(
        self, node_id: str, known: Sequence[str], streams: Sequence[tuple[str, str]] = ()
    ) -> list[str]:
        """Give back what a node does not know that it was given: a reply was lost."""
        pairs = [value for pair in streams for value in pair]
        reply = await self._run("surrender", node_id, len(streams), *pairs, *known)
        return [replies.text(item) for item in reply]

    async def renew(self, node_id: str, leases: Iterable[tuple[str, str, int]]) -> RenewReply:
        """Renew a node's lease and its jobs' (job id, entry, delivery)."""
        settings = self._settings
        flat = [value for lease in leases for value in lease]
        reply = await self._run(
            "renew", node_id, settings.node_lease_ms, settings.job_lease_ms, *flat
        )
        lost, stops = ([replies.text(item) for item in part] for part in reply[3:5])
        return RenewReply(
            int(reply[0]),
            replies.text(reply[1]),
            reply[2] == b"1",
            lost,
            dict(zip(stops[::2], stops[1::2], strict=True)),
        )

    async def progress(self, node_id: str, job_id: str, delivery: int, body: bytes) -> bool:
        """Publish a job's progress."""
        return bool(await self._run("progress", node_id, job_id, delivery, body))

    async def register_node(
        self, node_id: str, record: bytes, *, worker: bool, queues: Sequence[str],
        handlers: Sequence[str],
    ) -> str:  # fmt: skip
        """Announce a node; return the namespace's incarnation."""
        lease = self._settings.node_lease_ms
        reply = await self._run(
            "register_node", node_id, lease, record, int(worker), len(queues), *queues, *handlers
        )
        return replies.text(reply[0])

    async def retire_node(self, node_id: str, *, holder: str = "") -> str:
        """Take a node out: itself, or as the leader a dead one."""
        settings = self._settings
        return replies.text(
            await self._run(
                "retire_node",
                node_id,
                holder,
                settings.history_retention_ms,
                settings.pinned_grace_ms,
            )
        )

    async def survey_nodes(self) -> tuple[int, list[NodeRow]]:
        """Return the server's time and every node with its leases."""
        reply = await self._run("survey_nodes")
        return int(reply[0]), [replies.node_row(row) for row in reply[1:]]

    # The janitor ------------------------------------------------------------------------------

    async def reclaim(self, holder: str, node_id: str, *, renewed: str = "") -> list[str]:
        """Take back a node's jobs: expired ones, or all if it did not renew since ``renewed``."""
        retention = self._settings.history_retention_ms
        reply = await self._run("reclaim", holder, node_id, renewed, MOST_ITEMS, retention)
        return [replies.text(item) for item in reply]

    async def recover_pending(self, holder: str, queue: str, priority: str) -> list[str]:
        """Put back what was handed to a worker and never claimed."""
        idle = self._settings.pending_idle_ms
        reply = await self._run("recover_pending", holder, queue, priority, idle, MOST_ITEMS)
        return [replies.text(item) for item in reply]

    async def settle_parked(self, holder: str) -> list[str]:
        """Fail parked jobs that no live worker has served for ``handler_grace_ms``."""
        settings = self._settings
        reply = await self._run(
            "settle_parked",
            holder,
            settings.handler_grace_ms,
            settings.history_retention_ms,
            MOST_ITEMS,
        )
        return [replies.text(item) for item in reply]

    async def purge(self, holder: str) -> int:
        """Forget finished jobs and log entries past their retention; return how many jobs."""
        return int(await self._run("purge", holder, self._settings.log_retention_ms, MOST_ITEMS))

    async def audit(self, holder: str, task_ids: Sequence[str]) -> list[tuple[str, str]]:
        """Repair tasks that break their invariant; return (task id, what was repaired)."""
        repaired: list[tuple[str, str]] = []
        for chunk in _chunks(task_ids):
            reply = [replies.text(item) for item in await self._run("audit", holder, *chunk)]
            repaired += zip(reply[::2], reply[1::2], strict=True)
        return repaired


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[first : first + MOST_ITEMS] for first in range(0, len(items), MOST_ITEMS))
