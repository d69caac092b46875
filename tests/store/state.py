"""The whole state of a namespace as plain values, and what a call changed in it."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis

from quiv_dist.core.wire import Envelope, decode_envelope
from quiv_dist.store.keys import Keys
from quiv_dist.store.namespace import Store
from quiv_dist.store.partition import Partition
from quiv_dist.store.reads import Reads

T = TypeVar("T")
State = dict[str, Any]
Changes = dict[str, tuple[Any, Any]]

# What of a job never changes, as the scripts pack it.
CORE = (
    "task", "name", "run", "kind", "nominal", "inc", "attempt", "created", "handler", "queue",
    "prio", "maxc",
)  # fmt: skip
# An ended job.
FINAL = (
    "task", "name", "run", "kind", "nominal", "attempt", "created", "handler", "queue", "prio",
    "node", "deliv", "crashes", "started", "ended", "dur", "err", "dead",
)  # fmt: skip
# The short values of a task's definition.
DEFINITION = ("name", "handler", "queue", "prio", "maxc", "mode", "every", "jitter")
PACKED = {"core": CORE, "final": FINAL, "def": DEFINITION}
# How each type is read whole: what comes before the key, and after it.
READ: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hash": (("HGETALL",), ()),
    "zset": (("ZRANGE",), ("0", "-1", "WITHSCORES")),
    "set": (("SMEMBERS",), ()),
    "list": (("LRANGE",), ("0", "-1")),
    "string": (("GET",), ()),
    "stream": (("XRANGE",), ("-", "+")),
}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _pairs(values: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(values[::2], values[1::2], strict=True))


def changed(before: State, after: State) -> Changes:
    """What differs, entry by entry: `due[t:T]`, `job:J.status` to (old, new)."""
    return {
        name: (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


@dataclass
class Outcome:
    """What one call did: its result, the state it changed, the events it published."""

    result: Any
    changes: Changes
    events: list[Envelope]

    @property
    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    def touched(self, *ignored: str) -> set[str]:
        """The keys that changed, without what is said in brackets or after a dot."""
        names = {name.split("[")[0].split(".")[0] for name in self.changes}
        return names - set(ignored)


@dataclass
class World:
    """One namespace with a virtual clock, watched from outside over a connection of its own."""

    store: Store
    client: Redis
    namespace: str
    now: int
    partition: Partition = field(init=False)
    reads: Reads = field(init=False)
    keys: Keys = field(init=False)
    _entries: dict[bytes, str] = field(default_factory=dict)
    _pubsub: Any = None
    _seen: str = "0-0"
    _newest: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client.response_callbacks.clear()
        self.partition = self.store.partition()
        self.reads = self.store.reads()
        self.keys = self.store.keys()

    async def open(self) -> None:
        await self.store.open()
        self._pubsub = self.client.pubsub()
        await self._pubsub.psubscribe(self.keys.event_channel("*"))
        while (await self._pubsub.get_message(timeout=None))["type"] != "psubscribe":
            pass

    async def close(self) -> None:
        await self._pubsub.aclose()
        await self.store.close()

    async def command(self, *words: Any) -> Any:
        """Send one command past the store; the reply is as the server sent it."""
        return await self.client.execute_command(*words)

    async def at(self, ms: int) -> None:
        """Set the namespace's clock."""
        self.now = ms
        await self.store.set_virtual_ms(ms)

    async def after(self, ms: int) -> int:
        """Move the namespace's clock on; return the time then."""
        await self.at(self.now + ms)
        return self.now

    async def act(self, call: Awaitable[T]) -> Outcome:
        """Run a call; return what it changed and published, checked against the log."""
        await self.events()
        before = await self.dump()
        result = await call
        after = await self.dump()
        return Outcome(result, changed(before, after), await self.events())

    async def nothing(self, call: Awaitable[T]) -> T:
        """Run a call that must change nothing and publish nothing; return what it says."""
        done = await self.act(call)
        assert done.changes == {}
        assert done.kinds == []
        return done.result  # type: ignore[no-any-return]

    # Events -----------------------------------------------------------------------------------

    async def events(self) -> list[Envelope]:
        """The events since the last look: the log's, which must be those published, in order."""
        logged = await self.reads.log_after(self._seen)
        published = await self._published()
        assert [entry.data for entry in logged] == published
        found = []
        for entry in logged:
            event = decode_envelope(entry.data)
            assert (event.id, event.type, event.prev) == (entry.id, entry.kind, entry.prev)
            assert event.prev == self._newest.get(event.type, ""), "a gap in the chain of its kind"
            assert event.log == self.store.incarnation
            self._newest[event.type] = event.id
            self._seen = entry.id
            found.append(event)
        return found

    async def _published(self) -> list[bytes]:
        marker = self.keys.event_channel("~")
        await self.client.publish(marker, b"")
        found: list[bytes] = []
        while True:
            message = await self._pubsub.get_message(timeout=None)
            if message["channel"] == marker.encode():
                return found
            if message["channel"] != self.keys.event_channel("job_progress").encode():
                kind = message["channel"].decode().rsplit(":", 1)[1]
                assert json.loads(message["data"])["type"] == kind
                found.append(message["data"])

    # State ------------------------------------------------------------------------------------

    async def names(self) -> dict[str, str]:
        """Every key of the namespace, without the prefix, and its type."""
        pattern = self.keys.prefix.replace("{", r"\{").replace("}", r"\}") + "*"
        found: set[bytes] = set()
        cursor = b"0"
        while True:
            cursor, page = await self.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            found.update(page)
            if cursor == b"0":
                break
        types = await self._all([("TYPE", key) for key in found])
        prefix = len(self.keys.prefix)
        return {
            key.decode()[prefix:]: kind.decode()
            for key, kind in sorted(zip(found, types, strict=True))
        }

    async def dump(self) -> State:
        """The whole state but the log: one entry a field, member or item.

        Ids of stream entries, which the server's clock makes, are named by order of appearance.
        """
        state: State = {}
        names = [
            item for item in (await self.names()).items() if item[0] not in {"log", "logstate"}
        ]
        # Streams come first, so that their entries have names when a record mentions them.
        names.sort(key=lambda item: item[1] != "stream")
        reads = [(*READ[kind][0], self.keys.key(name), *READ[kind][1]) for name, kind in names]
        groups = [
            ("XINFO", "GROUPS", self.keys.key(name)) for name, kind in names if kind == "stream"
        ]
        replies = await self._all([*reads, *groups])
        for (name, kind), reply in zip(names, replies[: len(reads)], strict=True):
            getattr(self, f"_put_{kind}")(name, reply, state)
        for (name, _), reply in zip(names, replies[len(reads) :], strict=False):
            await self._put_pending(name, reply, state)
        return state

    async def _all(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Run commands in one round trip."""
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute() if commands else []

    def _put_hash(self, name: str, reply: list[bytes], state: State) -> None:
        for raw, value in _pairs(reply):
            label = raw.decode("utf-8", "backslashreplace")
            if name.startswith(("job:", "task:")) and label in PACKED:
                values = msgspec.msgpack.decode(value)
                for part, item in zip(PACKED[label], values, strict=True):
                    state[f"{name}.{part}"] = item
            elif label == "entry":
                state[f"{name}.entry"] = self._entries.get(value, _text(value))
            elif label not in {"clock_ms", "incarnation"}:
                state[f"{name}.{label}"] = _text(value)

    def _put_zset(self, name: str, reply: list[bytes], state: State) -> None:
        for member, score in _pairs(reply):
            state[f"{name}[{member.decode()}]"] = int(float(score))

    def _put_set(self, name: str, reply: list[bytes], state: State) -> None:
        for member in reply:
            state[f"{name}[{member.decode()}]"] = True

    def _put_list(self, name: str, reply: list[bytes], state: State) -> None:
        for index, value in enumerate(reply):
            state[f"{name}[{index}]"] = _text(value)

    def _put_string(self, name: str, reply: bytes, state: State) -> None:
        state[name] = _text(reply)

    def _put_stream(self, name: str, reply: list[Any], state: State) -> None:
        state[name] = "stream"
        for entry_id, values in reply:
            label = self._name_entry(entry_id)
            state[f"{name}[{label}]"] = {_text(k): _text(v) for k, v in _pairs(values)}

    async def _put_pending(self, name: str, groups: list[Any], state: State) -> None:
        for group in groups:
            about = dict(_pairs(group))
            if not about[b"pending"]:
                continue
            pending = await self.command(
                "XPENDING", self.keys.key(name), about[b"name"], "-", "+", 1000
            )
            for entry_id, consumer, _idle, _count in pending:
                state[f"{name}[{self._name_entry(entry_id)}].pending"] = consumer.decode()

    def _name_entry(self, entry_id: bytes) -> str:
        return self._entries.setdefault(entry_id, f"e{len(self._entries) + 1}")

    def entry_id(self, label: str) -> str:
        """The id behind the name of a stream entry."""
        return next(key.decode() for key, value in self._entries.items() if value == label)
