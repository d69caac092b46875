"""Reads of a partition that need no script: each is one command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from quiv_dist.store.keys import Keys
from quiv_dist.store.records import Delivered, LogEntry, Malformed

Execute = Callable[..., Awaitable[Any]]

# What a subscriber reads of the log at once.
LOG_PAGE = 500


class Reads:
    """Commands that only read, or that only wait."""

    def __init__(self, keys: Keys, execute: Execute) -> None:
        self.keys = keys
        self._execute = execute

    async def task_ids(self) -> list[str]:
        """Return the ids of all tasks, oldest first."""
        return _texts(await self._execute("ZRANGE", self.keys.key("tasks"), 0, -1))

    async def job_ids(
        self, *, newest_first: bool, since_ms: int | None = None, until_ms: int | None = None
    ) -> list[str]:
        """Return job ids by start time, within bounds in ms."""
        low = "-inf" if since_ms is None else since_ms
        high = "+inf" if until_ms is None else until_ms
        key = self.keys.key("jobs")
        if newest_first:
            return _texts(await self._execute("ZREVRANGEBYSCORE", key, high, low))
        return _texts(await self._execute("ZRANGEBYSCORE", key, low, high))

    async def job_count(self) -> int:
        """Return how many jobs are kept."""
        return int(await self._execute("ZCARD", self.keys.key("jobs")))

    async def dead_ids(self) -> list[str]:
        """Return the ids of dead letters, newest first."""
        return _texts(await self._execute("ZREVRANGE", self.keys.key("dead"), 0, -1))

    async def malformed(self) -> list[Malformed]:
        """Return the stream entries that nobody could read, newest first."""
        found = await self._execute("LRANGE", self.keys.key("malformed"), 0, -1)
        return [_malformed(item) for item in found]

    async def last_job_of_ended(self, task_id: str) -> str | None:
        """Return the last job of a task that ended by itself, while it is remembered."""
        value = await self._execute("GET", self.keys.key(f"spent:{task_id}"))
        return value.decode() if value else None

    async def live_jobs(self, task_id: str) -> list[str]:
        """Return the current job of each live run of a task."""
        return _texts(await self._execute("HVALS", self.keys.key(f"live:{task_id}")))

    async def next_due_ms(self) -> int | None:
        """Return the earliest due time."""
        found = await self._execute("ZRANGE", self.keys.key("due"), 0, 0, "WITHSCORES")
        return int(float(found[1])) if found else None

    async def leader(self) -> tuple[str, int]:
        """Return the leader lease: holder (empty: none) and its end, ms of the server's clock."""
        holder, until = await self._execute("HMGET", self.keys.key("leader"), "holder", "until")
        return (holder.decode(), int(until)) if holder else ("", 0)

    async def presence(self, node_ids: list[str]) -> dict[str, int]:
        """Return how many connections listen on each node's control channel."""
        if not node_ids:
            return {}
        channels = [self.keys.node_channel(node_id) for node_id in node_ids]
        reply = await self._execute("PUBSUB", "NUMSUB", *channels)
        return dict(zip(node_ids, (int(count) for count in reply[1::2]), strict=True))

    async def is_served(self, queue: str, handler: str) -> bool:
        """Tell whether a worker that has not been swept serves a handler of a queue."""
        return bool(await self._execute("SMEMBERS", self.keys.key(f"serves:{queue}|{handler}")))

    async def queues(self) -> list[str]:
        """Return the names of all queues that a worker has served."""
        return sorted(_texts(await self._execute("SMEMBERS", self.keys.key("queues"))))

    async def journal(self, task_id: str) -> list[str]:
        """Return a task's tick journal, newest first, as ``outcome|first|last|count|reason``."""
        newest = await self._execute("HGET", self.keys.key(f"task:{task_id}"), "journal")
        older = await self._execute("LRANGE", self.keys.key(f"journal:{task_id}"), 0, -1)
        return _texts([newest, *older] if newest else older)

    async def log_end(self) -> str:
        """Return the id of the log's newest event, ``0-0`` for an empty log."""
        found = await self._execute("XREVRANGE", self.keys.key("log"), "+", "-", "COUNT", 1)
        return found[0][0].decode() if found else "0-0"

    async def log_start(self) -> str | None:
        """Return the id of the log's oldest event."""
        found = await self._execute("XRANGE", self.keys.key("log"), "-", "+", "COUNT", 1)
        return found[0][0].decode() if found else None

    async def log_after(self, last_id: str, until: str = "+") -> list[LogEntry]:
        """Return one page of events after ``last_id``, oldest first."""
        found = await self._execute(
            "XRANGE", self.keys.key("log"), f"({last_id}", until, "COUNT", LOG_PAGE
        )
        return [_log_entry(entry_id, fields) for entry_id, fields in found]

    async def wait_for_entry(
        self, node_id: str, streams: list[tuple[str, str]], block_ms: int
    ) -> list[Delivered]:
        """Wait for one entry of each stream for at most ``block_ms``.

        One entry wakes one waiting worker. What comes back is delivered but not claimed.
        """
        names = [self.keys.stream(queue, priority) for queue, priority in streams]
        reply = await self._execute(
            "XREADGROUP", "GROUP", "workers", node_id, "COUNT", 1, "BLOCK", block_ms,
            "STREAMS", *names, *(">" for _ in names),
        )  # fmt: skip
        by_name = dict(zip(names, streams, strict=True))
        return [
            Delivered(*by_name[stream.decode()], entry_id.decode())
            for stream, entries in reply or ()
            for entry_id, _ in entries
        ]

    async def create_groups(self, streams: list[tuple[str, str]]) -> None:
        """Create the consumer group of each stream that has none, from its beginning."""
        for queue, priority in streams:
            key = self.keys.stream(queue, priority)
            try:
                await self._execute("XGROUP", "CREATE", key, "workers", "0", "MKSTREAM")
            except Exception as error:
                if "BUSYGROUP" not in str(error):
                    raise


def _texts(values: list[bytes]) -> list[str]:
    return [value.decode() for value in values]


def _malformed(item: bytes) -> Malformed:
    found = msgspec.json.decode(item)
    fields = [bytes.fromhex(value) for value in found["fields_hex"]]
    return Malformed(found["stream"], found["entry"], found["at_ms"], fields)


def _log_entry(entry_id: bytes, fields: list[bytes]) -> LogEntry:
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    return LogEntry(entry_id.decode(), found[b"k"].decode(), found[b"p"].decode(), found[b"m"])
