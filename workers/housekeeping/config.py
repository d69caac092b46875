"""What the fleet looks after, read from a TOML file and checked at the door."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import msgspec

CONFIG_VARIABLE = "HOUSEKEEPING_CONFIG"


class Scheduled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something with a name and a schedule: ``every_s`` seconds, or a ``cron``."""

    name: str
    every_s: float | None = None
    cron: str | None = None


class Site(Scheduled, frozen=True, kw_only=True):
    """A page that must answer 2xx within ``timeout_s`` and contain a text."""

    url: str
    contains: str = ""
    timeout_s: float = 10.0


class Database(Scheduled, frozen=True, kw_only=True):
    """An SQLite file; the newest ``keep`` backups of it stay.

    ``pause_s`` seconds are left to its writers after every 64 pages; a backup that has not ended
    after ``timeout_s`` is given up.
    """

    path: Path
    keep: int = 7
    pause_s: float = 0.0
    timeout_s: float = 3600.0


class Tree(Scheduled, frozen=True, kw_only=True):
    """A directory whose files are compared with those of the last look."""

    path: Path


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. ``state`` is where backups and digests are kept."""

    state: Path
    site: tuple[Site, ...] = ()
    database: tuple[Database, ...] = ()
    tree: tuple[Tree, ...] = ()


def load() -> Config:
    """Return the configuration that ``HOUSEKEEPING_CONFIG`` names.

    Paths in it are relative to it. All processes of a fleet must see the same paths.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, or a value is not accepted.

    """
    path = Path(os.environ.get(CONFIG_VARIABLE, "housekeeping.toml")).absolute()
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        error.add_note(f"{CONFIG_VARIABLE} names the configuration of the housekeeping fleet")
        raise

    def relative_to_file(kind: type, value: object) -> Path:
        assert kind is Path
        return path.parent / str(value)

    return msgspec.convert(found, Config, dec_hook=relative_to_file)
