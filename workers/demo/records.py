"""What the demonstration reads back: events from the listener, handler starts from the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from quiv_dist import Event, EventGap, Job, Node, Task, Tick

T = TypeVar("T")


class Heard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event as a listener heard it, with what it was given."""

    event: Event
    heard_ms: int
    task: Task | None = None
    job: Job | None = None
    tick: Tick | None = None
    node: Node | None = None
    eventgap: EventGap | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the ledger: a handler that started, ended or failed in a process."""

    phase: str
    handler: str
    job_id: str
    at_ms: int
    pid: int


class Lines(Generic[T]):
    """A file of JSON lines that somebody else appends to."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._decode = msgspec.json.Decoder(kind).decode
        self._offset = 0
        self.all: list[T] = []

    def read(self) -> list[T]:
        """Return the lines that were completed since the last call; keep them in ``all``."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            found = file.read()
        whole = found[: found.rfind(b"\n") + 1]
        self._offset += len(whole)
        new = [self._decode(line) for line in whole.splitlines()]
        self.all += new
        return new
