"""Opening a namespace: connect, check the server, read or write the schema stamp."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from redis import exceptions as errors
from redis.asyncio import Redis

from quiv_dist.clock import STEP_MS, ServerClock
from quiv_dist.config import DEFAULT_NAMESPACE, Settings
from quiv_dist.core.ids import partition_of_job, partition_of_task
from quiv_dist.core.wire import SCHEMA_VERSION
from quiv_dist.exceptions import (
    ConfigurationError,
    LeadershipLostError,
    RedisUnavailableError,
    SchemaVersionError,
)
from quiv_dist.store import scripts
from quiv_dist.store.channels import Channel
from quiv_dist.store.connection import execute, open_client, redacted, translated, until_answered
from quiv_dist.store.keys import Keys, check_namespace
from quiv_dist.store.partition import Partition
from quiv_dist.store.probe import Role, probe
from quiv_dist.store.reads import Reads
from quiv_dist.store.records import UnregisteredError

_LEAST_VERSION = (6, 2)
_LOG = logging.getLogger("Quiv")


class Store:
    """A namespace on one server. Not bound to an event loop until its first use.

    Args:
        url: where the server is.
        namespace: letters, digits, ``.``, ``_`` and ``-``.
        settings: timeouts and bounds.
        virtual_ms: create the namespace with a virtual clock beginning here; for tests only.

    Raises:
        ConfigurationError: the URL or the namespace is not accepted.

    """

    def __init__(
        self,
        url: str,
        namespace: str = DEFAULT_NAMESPACE,
        settings: Settings | None = None,
        *,
        virtual_ms: int | None = None,
    ) -> None:
        self.url = url
        self.namespace = check_namespace(namespace)
        self.settings = settings or Settings()
        self.clock = ServerClock()
        self.incarnation = ""
        self.partitions = 1
        self.virtual = False
        self._virtual_ms = virtual_ms
        self._client = open_client(url, self.settings)
        self._blocking: Redis | None = None
        self._opened = False

    # Life ---------------------------------------------------------------------------------------

    async def open(self, *, role: Role | None = None, timeout_s: float | None = None) -> None:
        """Connect, check the server and the schema stamp; with ``role``, what it may do there.

        Raises:
            RedisUnavailableError: no answer within ``timeout_s`` (``command_timeout_s``).
            ConfigurationError: the server refuses us or something that ``role`` needs, is too
                old, or is a read-only replica.
            SchemaVersionError: the namespace was written by an unsupported version.

        """
        limit = self.settings.command_timeout_s if timeout_s is None else timeout_s
        if role is not None:
            await probe(self, role, timeout_s=limit)
        await until_answered(self._check_server, self.settings, self.url, limit)
        await self._open_namespace(limit)
        self._opened = True

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        if self._blocking is not None:
            await self._blocking.aclose()

    async def _check_server(self) -> None:
        text = (await execute(self._client, "INFO")).decode()
        info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        version = info.get("redis_version", "0")
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers < _LEAST_VERSION:
            msg = f"Redis at {redacted(self.url)} is version {version}; 6.2 or later is needed"
            raise ConfigurationError(msg)
        policy = info.get("maxmemory_policy", "")
        if policy.startswith("allkeys-"):
            _LOG.warning(
                "Redis at %s evicts keys when memory is short (maxmemory-policy %s): tasks and jobs"
                " would be lost; set noeviction", redacted(self.url), policy,
            )  # fmt: skip
        if info.get("role") == "slave" and info.get("slave_read_only", "1") == "1":
            msg = f"Redis at {redacted(self.url)} is a read-only replica: give the primary's URL"
            raise ConfigurationError(msg)

    async def _open_namespace(self, timeout_s: float) -> None:
        keys = Keys(self.namespace, 0)

        async def act() -> list[bytes]:
            args: list[Any] = [
                SCHEMA_VERSION, uuid4().hex, 0, self.partitions, self.settings.log_bytes,
                "" if self._virtual_ms is None else self._virtual_ms,
            ]  # fmt: skip
            reply: list[bytes] = await scripts.run(self._client, "open_namespace", keys.meta, args)
            return reply

        reply = await until_answered(act, self.settings, self.url, timeout_s)
        schema, incarnation, partitions, virtual, _created = (item.decode() for item in reply)
        if int(schema) != SCHEMA_VERSION:
            msg = (
                f"namespace={self.namespace!r} has schema {schema}; this version supports"
                f" {SCHEMA_VERSION} only"
            )
            raise SchemaVersionError(msg)
        self.partitions = int(partitions)
        self.virtual = virtual == "1"
        if self.incarnation and self.incarnation != incarnation:
            _LOG.warning(
                "namespace %s was lost by the server and made anew: everything stored before"
                " is gone", self.namespace,
            )  # fmt: skip
        self.incarnation = incarnation

    # Partitions ---------------------------------------------------------------------------------

    def keys(self, partition: int = 0) -> Keys:
        """Return the key names of a partition."""
        return Keys(self.namespace, partition)

    def partition(self, number: int = 0) -> Partition:
        """Return the operations of a partition."""
        return Partition(self.keys(number), self._run_script, self.settings)

    def reads(self, number: int = 0) -> Reads:
        """Return the reads of a partition."""
        return Reads(self.keys(number), self._execute)

    def blocking_reads(self, number: int = 0) -> Reads:
        """Return reads over a connection of their own, for those that wait in the server."""
        return Reads(self.keys(number), self._execute_blocking)

    def partition_of_task(self, task_id: str) -> int:
        """Return the partition of a task."""
        return partition_of_task(task_id, self.partitions)

    def partition_of_job(self, job_id: str) -> int:
        """Return the partition of a job."""
        return partition_of_job(job_id, self.partitions)

    def channel(self) -> Channel:
        """Return a subscribing connection, not open yet."""
        return Channel(self.url, self.settings)

    async def now_ms(self) -> int:
        """Return the server's time: the virtual clock's where there is one."""
        if not self._opened:
            await self.open()
        if self.virtual:
            return int(await self._execute("HGET", self.keys().meta, "clock_ms"))
        seconds, micros = await self._execute("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def set_virtual_ms(self, now_ms: int) -> None:
        """Move the clock of a virtual namespace."""
        if not self.virtual:
            msg = f"namespace={self.namespace!r} has no virtual clock"
            raise ConfigurationError(msg)
        await self._execute("HSET", self.keys().meta, "clock_ms", now_ms)

    # Commands -----------------------------------------------------------------------------------

    async def _execute(self, *command: Any) -> Any:
        if not self._opened:
            await self.open()
        return await until_answered(
            lambda: execute(self._client, *command),
            self.settings,
            self.url,
            self.settings.command_timeout_s,
        )

    async def _execute_blocking(self, *command: Any) -> Any:
        if self._blocking is None:
            wait_s = self.settings.block_ms / 1000 + self.settings.command_timeout_s
            self._blocking = open_client(self.url, self.settings, read_timeout_s=wait_s)
        try:
            return await execute(self._blocking, *command)
        except errors.ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED", "LOADING")):
                raise translated(error, self.url) from error
            msg = f"Redis at {redacted(self.url)} lost the consumer group: {error}"
            raise RedisUnavailableError(msg) from error
        except (errors.ConnectionError, errors.TimeoutError, OSError) as error:
            msg = f"Redis at {redacted(self.url)} went away: {error}"
            raise RedisUnavailableError(msg) from error

    async def _run_script(self, keys: Keys, name: str, args: list[Any], resend: bool) -> Any:
        if not self._opened:
            await self.open()

        def act() -> Any:
            return scripts.run(self._client, name, keys.meta, args)

        limit = self.settings.command_timeout_s
        for last_try in (False, True):
            try:
                return await until_answered(act, self.settings, self.url, limit, resend=resend)
            except errors.ResponseError as error:
                text = str(error)
                if text.startswith("FENCED"):
                    raise LeadershipLostError(text.removeprefix("FENCED ")) from error
                if text.startswith("UNREGISTERED"):
                    raise UnregisteredError(text.removeprefix("UNREGISTERED ")) from error
                if not text.startswith("NONAMESPACE") or last_try:
                    raise translated(error, self.url) from error
                # The server was flushed, or came back without its data.
                await self._open_namespace(limit)
        raise AssertionError(name)

    def observe(
        self, server_ms: int, sent_s: float, report: Callable[[str], None] = _LOG.warning
    ) -> None:
        """Learn the server's time from the reply to a request begun at ``sent_s`` (monotonic).

        A step of its clock is reported.
        """
        moved = self.clock.observe(server_ms, sent_s)
        if abs(moved) > STEP_MS:
            report(f"the clock of the Redis server moved by {moved / 1000:+.1f} s")
