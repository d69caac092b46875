"""The Lua scripts: one file an operation, joined with the shared prelude and called by hash."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from quiv_dist.store.connection import execute

# These run without the prelude: before there is the record that it needs.
_STANDALONE = frozenset({"open_namespace", "probe"})


@cache
def source(name: str) -> str:
    """Return the whole text of a script."""
    folder = resources.files("quiv_dist.store") / "lua"
    body = (folder / f"{name}.lua").read_text("utf-8")
    if name in _STANDALONE:
        return body
    prelude = (folder / "prelude.lua").read_text("utf-8")
    return (
        f"{prelude}\nlocal function main()\n{body}\nend\n"
        "local reply = main()\nflush()\nreturn reply\n"
    )


@cache
def digest(name: str) -> str:
    """Return the SHA-1 by which the server knows a script."""
    return hashlib.sha1(source(name).encode()).hexdigest()  # noqa: S324 - the server's choice


def names() -> list[str]:
    """Return the names of all scripts."""
    folder = resources.files("quiv_dist.store") / "lua"
    stems = (entry.name.removesuffix(".lua") for entry in folder.iterdir())
    return sorted(stem for stem in stems if stem != "prelude")


async def run(client: Redis, name: str, meta_key: str, args: list[Any]) -> Any:
    """Run a script, loading it when the server does not know it (yet, or any more)."""
    try:
        return await execute(client, "EVALSHA", digest(name), 1, meta_key, *args)
    except NoScriptError:
        return await execute(client, "EVAL", source(name), 1, meta_key, *args)
