"""Every key of a namespace: its type, what ends it, who writes and who reads it.

All keys of a partition share one hash tag, ``quiv:{namespace/partition}:``, so that a script may
touch any of them on a cluster. Nothing else in the package spells a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from quiv_dist.exceptions import ConfigurationError

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_namespace(name: object) -> str:
    """Return ``name``, or raise: braces would break the hash tag, spaces the ACL patterns."""
    if not isinstance(name, str) or not _NAMESPACE.fullmatch(name):
        msg = (
            f"namespace={name!r} is not accepted: 1 to 100 letters, digits, '.', '_' or '-',"
            " beginning with a letter or digit"
        )
        raise ConfigurationError(msg)
    return name


@dataclass(frozen=True)
class Key:
    """One entry of the catalogue. ``pattern`` is a regular expression after the prefix."""

    pattern: str
    type: str
    ends: str
    writer: str
    reader: str
    holds: str


CATALOGUE: tuple[Key, ...] = (
    Key("meta", "hash", "never", "open_namespace", "all", "schema, incarnation, settings, clock"),
    Key("tasks", "zset", "with the tasks", "put_task", "client, janitor", "ids by creation, ms"),
    Key("task:.+", "hash", "remove_task, settle", "client, fire", "client, leader", "a task"),
    Key("journal:.+", "list", "with its task; 200 entries", "fire", "client", "tick outcomes"),
    Key("live:.+", "hash", "empties itself", "fire, settle", "all", "run id to job id"),
    Key("spent:.+", "string", "TTL = retention", "settle", "client", "last job of an ended task"),
    Key("due", "zset", "empties itself", "client, leader", "leader", "t:task, r:job by due ms"),
    Key("q:[^:]+:(high|normal|low)", "stream", "never", "leader, client", "workers", "job ids"),
    Key("queues", "set", "never", "register_node", "janitor", "queue names"),
    Key("job:.+", "hash", "purge", "leader, workers", "all", "a job"),
    Key("jobs", "zset", "purge", "all", "client", "job ids by start, ms"),
    Key("ended", "zset", "purge", "settle", "janitor", "finished job ids by expiry, ms"),
    Key("dead", "zset", "10,000 entries", "settle", "client", "dead letters by end, ms"),
    Key("malformed", "list", "1,000 entries", "claim", "client", "stream entries nobody can read"),
    Key("parked", "zset", "empties itself", "claim", "janitor", "queue|handler by parking, ms"),
    Key("parked:.+", "list", "empties itself", "claim", "claim, janitor", "job ids that wait"),
    Key("leases:.+", "zset", "empties itself", "workers", "janitor", "job ids by lease end, ms"),
    Key("leader", "hash", "resign", "electors", "all", "holder (node|epoch), until, since"),
    Key("epoch", "string", "never", "elect", "elect", "the highest epoch ever"),
    Key("nodes", "zset", "sweep", "every node", "janitor", "node ids by lease end, ms"),
    Key("node:.+", "hash", "sweep", "its node", "all", "node JSON, newest renewal"),
    Key("handlers:.+", "set", "sweep", "its node", "claim", "handlers that the node serves"),
    Key("serves:.+", "set", "sweep", "its nodes", "claim, janitor", "nodes of a queue|handler"),
    Key("places:.+", "set", "sweep", "its node", "sweep", "queue|handler of a node"),
    Key("pinned:.+", "set", "sweep", "put_task", "sweep", "tasks pinned to a node"),
    Key("call:.+", "string", "TTL 1 min", "writes of users", "the same, sent again", "its reply"),
    Key("log", "stream", "bytes and age", "all", "subscribers", "events"),
    Key("logstate", "hash", "never", "all", "all", "newest event ids, bytes written"),
    Key("probe:.+", "string", "TTL 1 min", "probe", "probe", "tried at start-up, then removed"),
)

_TYPES = [(re.compile(key.pattern), key) for key in CATALOGUE]

PRIORITIES = ("high", "normal", "low")


@dataclass(frozen=True)
class Keys:
    """Key and channel names of one partition."""

    namespace: str
    partition: int = 0

    @property
    def prefix(self) -> str:
        """What every key and channel of this partition begins with."""
        return f"quiv:{{{self.namespace}/{self.partition}}}:"

    def key(self, name: str) -> str:
        """Return the full name of a catalogued key."""
        return self.prefix + name

    @property
    def meta(self) -> str:
        """Return the routing key that every script is given."""
        return self.key("meta")

    def stream(self, queue: str, priority: str) -> str:
        """Return the work stream of a queue and priority."""
        return self.key(f"q:{queue}:{priority}")

    def event_channel(self, kind: str) -> str:
        """Return the pub/sub channel of an event kind; ``*`` gives the pattern of all."""
        return self.key(f"event:{kind}")

    def node_channel(self, node_id: str) -> str:
        """Return the control channel of a node; being subscribed to it is its presence."""
        return self.key(f"node:{node_id}")

    @property
    def wake_channel(self) -> str:
        """Return the channel that tells the leader of a new due time, ms."""
        return self.key("wake")

    @property
    def leadership_channel(self) -> str:
        """Return the channel that tells standbys that the lease is free."""
        return self.key("leadership")

    def entry_of(self, full_name: str) -> Key | None:
        """Return the catalogue entry of a key of this partition, ``None`` for a stranger."""
        name = full_name.removeprefix(self.prefix)
        return next((key for pattern, key in _TYPES if pattern.fullmatch(name)), None)
