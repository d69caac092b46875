"""What each role needs of the server, tried at its start.

A script is not rolled back when the server refuses a command in its middle, so a user without
the right to publish would leave half of a change behind. Hence every command, key and channel
that a role uses is tried under its own user before it does anything, and everything refused is
named at once, with the ACL rules to add.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

from redis import exceptions as errors

from quiv_dist.exceptions import ConfigurationError
from quiv_dist.store import scripts
from quiv_dist.store.connection import (
    Refusal,
    execute,
    is_passing,
    open_client,
    redacted,
    refusal,
    until_answered,
)
from quiv_dist.store.keys import CATALOGUE

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from quiv_dist.store.namespace import Store

T = TypeVar("T")
Role = Literal["scheduler", "worker", "client", "listener"]
ROLES: tuple[Role, ...] = ("scheduler", "worker", "client", "listener")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONNECT = _words("eval evalsha info ping pubsub|numsub subscribe unsubscribe")
_READ = _words(
    "get hget hgetall hlen hmget hvals lrange smembers time xrange xrevrange zcard zrange"
    " zrangebyscore zrevrange zrevrangebyscore zscore"
)
_WRITE = _words(
    "del exists hdel hset lpush lrem ltrim publish sadd set srem xack xadd xdel"
    " xgroup|delconsumer xpending xtrim zadd zrem zremrangebyrank"
)
_CLIENT = _CONNECT | _READ | _WRITE

COMMANDS: dict[Role, frozenset[str]] = {
    "scheduler": _CLIENT | _words("lpop"),
    "worker": _CLIENT | _words("lpop rpush sismember xgroup|create xreadgroup"),
    "client": _CLIENT,
    # In other languages it may subscribe by pattern; this package never does.
    "listener": _CONNECT | _READ | _words("psubscribe punsubscribe"),
}
"""Every command of a role, as an ACL names it: of its scripts, its reads, its connections."""

DIRECT: dict[str, tuple[object, ...]] = {
    "info": ("INFO", "server"),
    "ping": ("PING",),
    "pubsub|numsub": ("PUBSUB", "NUMSUB"),
    "unsubscribe": ("UNSUBSCRIBE",),
    "punsubscribe": ("PUNSUBSCRIBE",),
}
"""How to try the commands that no script runs; those that subscribe are tried with channels."""
_BY_CHANNEL = _words("subscribe psubscribe")
_BY_SCRIPT = _words("eval evalsha")
# What other commands, keys and channels are tried with.
_TRIED_WITH = _words("eval hmget hdel subscribe psubscribe")

# The leader lease is the scheduler's. Others may be allowed to read it, and need not be.
_LEADERSHIP = frozenset({"leader", "epoch"})

KEY_PATTERNS: dict[Role, tuple[str, ...]] = {
    "scheduler": ("*",),
    # All but `leader` and `epoch`. An ACL cannot exclude, so by first letters: whatever begins
    # with neither e nor l, and of those two the others.
    "worker": ("[^el]*", "ended", "l[^e]*", "leases:*"),
    "client": ("*",),
    "listener": ("*",),
}
CHANNEL_PATTERNS: dict[Role, tuple[str, ...]] = {
    "scheduler": ("*",),
    "worker": ("*",),
    "client": ("*",),
    "listener": ("event:*",),
}


def acl_rules(role: Role, namespace: str) -> list[str]:
    """Return the least rules under which a role can work, as ``ACL SETUSER`` takes them."""
    prefix = f"quiv:{{{namespace}/*}}:"
    rules = [f"~{prefix}{pattern}" for pattern in KEY_PATTERNS[role]]
    rules += [f"&{prefix}{pattern}" for pattern in CHANNEL_PATTERNS[role]]
    if role == "listener":
        # A subscription to a pattern needs a rule of exactly that pattern: one a partition.
        rules.append(f"&quiv:{{{namespace}/0}}:event:*")
    return [*rules, *(f"+{command}" for command in sorted(COMMANDS[role]))]


@dataclass
class _Findings:
    """What was refused. Keys and channels by their names after the prefix."""

    commands: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.commands or self.missing or self.keys or self.channels)

    @property
    def partial(self) -> bool:
        """Whether a refusal hides others: what it was to be tried with could not run."""
        refused = self.commands | self.missing
        # See probe.lua for the last.
        return bool(refused & _TRIED_WITH) or refused >= {"set", "del"} or "meta" in self.keys

    def add(self, kind: Refusal | None, name: str, *, key: str, channel: str) -> None:
        """Note the refusal of ``name``, which was tried on this key or channel."""
        if kind == "missing":
            self.missing.add(name)
        elif kind == "command":
            self.commands.add(name)
        elif kind == "key":
            self.keys.add(key)
        elif kind == "channel":
            self.channels.add(channel)


async def probe(store: Store, role: Role, *, timeout_s: float | None = None) -> None:
    """Try everything that ``role`` uses, under the user of the store's URL.

    Raises:
        ConfigurationError: the server refuses or lacks something, all of which is named; or it
            refuses the connection.
        RedisUnavailableError: no answer within ``timeout_s`` (``command_timeout_s``) to a command.

    """
    client = open_client(store.url, store.settings)
    try:
        await _Probe(store, role, client, timeout_s).run()
    finally:
        await client.aclose()


class _Probe:
    def __init__(self, store: Store, role: Role, client: Redis, timeout_s: float | None) -> None:
        self._store = store
        self._role = role
        self._client = client
        self._keys = store.keys()
        self._limit_s = store.settings.command_timeout_s if timeout_s is None else timeout_s
        self._findings = _Findings()

    async def run(self) -> None:
        """Try everything; report what was refused."""
        commands = COMMANDS[self._role]
        await self._try("ping", *DIRECT["ping"])
        for name in sorted(commands & DIRECT.keys() - {"ping"}):
            await self._try(name, *DIRECT[name])
        await self._try_script(commands - DIRECT.keys() - _BY_CHANNEL - _BY_SCRIPT)
        await self._try_channels()
        if self._findings:
            raise ConfigurationError(self._message())

    async def _answered(self, act: Callable[[], Awaitable[T]]) -> T:
        store = self._store
        return await until_answered(act, store.settings, store.url, self._limit_s)

    async def _try(self, name: str, *command: object, key: str = "", channel: str = "") -> Any:
        """Run a command; note its refusal, and return its reply, or ``None`` for an error."""

        async def act() -> Any:
            try:
                return await execute(self._client, *command)
            except errors.ResponseError as error:
                if is_passing(error):
                    raise
                self._findings.add(refusal(str(error)), name, key=key, channel=channel)
                return None

        return await self._answered(act)

    async def _try_script(self, commands: Iterable[str]) -> None:
        names = sorted(commands)
        keys = [value for name, written in self._key_names() for value in (name, int(written))]
        args = [1, self._keys.meta, uuid4().hex, len(names), *names, *keys]
        digest, source = scripts.digest("probe"), scripts.source("probe")
        # The hash may be unknown, which is an error and no refusal.
        await self._try("evalsha", "EVALSHA", digest, *args, key="meta")
        reply = await self._try("eval", "EVAL", source, *args, key="meta")
        for name, error in zip((reply or ())[::2], (reply or ())[1::2], strict=True):
            kind, label = refusal(error.decode()), name.decode()
            if label in names:
                self._findings.add(kind, label, key="probe:*", channel="node:*")
            elif kind == "key":
                self._findings.add(kind, label, key=label, channel="")

    def _key_names(self) -> Iterable[tuple[str, bool]]:
        """Return a name for each kind of key that the role uses, and whether it writes it."""
        for entry in CATALOGUE:
            name = sample(entry.pattern)
            if self._role == "scheduler" or name not in _LEADERSHIP:
                yield name, self._role != "listener"

    async def _try_channels(self) -> None:
        channels = [self._keys.event_channel("probe")]
        if self._role != "listener":
            channels += [
                self._keys.node_channel("probe"),
                self._keys.wake_channel,
                self._keys.leadership_channel,
            ]
        for channel in channels:
            name = channel.removeprefix(self._keys.prefix).replace("probe", "*")
            await self._try("subscribe", "SUBSCRIBE", channel, channel=name)
            # What is published there meanwhile must not be taken for a reply.
            await self._client.connection_pool.disconnect()
        if "psubscribe" in COMMANDS[self._role]:
            pattern = self._keys.event_channel("*")
            await self._try("psubscribe", "PSUBSCRIBE", pattern, channel="event:*")
            await self._client.connection_pool.disconnect()

    def _message(self) -> str:
        found, prefix = self._findings, self._keys.prefix
        store, role = self._store, self._role
        text = f"Redis at {redacted(store.url)} cannot serve the {role} role."
        if found.missing:
            text += (
                f" It lacks {_listed(found.missing)} (renamed, disabled, or too old a server:"
                " Redis 6.2 or later, or Valkey, is needed, with its commands under their names)."
            )
        parts = [
            f"{what} {_listed(names)}"
            for what, names in (
                ("commands", found.commands),
                ("keys", {prefix + name for name in found.keys}),
                ("channels", {prefix + name for name in found.channels}),
            )
            if names
        ]
        if parts:
            text += f" Its ACL refuses this user {'; '.join(parts)}."
            text += f" Add to the rules of the user: {' '.join(self._rules())}"
        return text

    def _rules(self) -> Iterable[str]:
        """Return the rules that are missing; all of them where not everything was tried."""
        found = self._findings
        for rule in acl_rules(self._role, self._store.namespace):
            wanted = {
                "~": bool(found.keys),
                "&": bool(found.channels),
                "+": rule[1:] in found.commands,
            }
            if found.partial or wanted[rule[0]]:
                yield rule


def sample(pattern: str) -> str:
    """Return a name that a pattern of the catalogue matches and that no record has."""
    found = pattern.replace("[^:]+", "probe").replace(".+", "probe")
    return found.replace("(high|normal|low)", "normal")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
