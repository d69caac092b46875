"""Backups of SQLite databases, each checked before it counts. A function handler."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from quiv_dist import JobCancelledError
from workers.housekeeping.ledger import recorded

_PAGES_A_STEP = 64


class BackupError(Exception):
    """A copy that SQLite itself does not find intact."""


def back_up(
    source: str,
    directory: str,
    keep: int,
    pause_s: float,
    job_id: str,
    stop_event: threading.Event,
) -> str:
    """Copy a database that may be in use, check the copy, and drop the oldest ones.

    A copy has its final name only when it is complete and intact, so a worker that dies in the
    middle leaves nothing that could be taken for a backup; the next run removes its remains.

    Args:
        source: the database file.
        directory: where backups are kept.
        keep: how many.
        pause_s: seconds left to the database's writers after every 64 pages.
        job_id: injected.
        stop_event: injected; looked at between steps.

    Returns:
        The path of the backup.

    Raises:
        BackupError: the copy is not intact.
        JobCancelledError: the job was asked to stop.

    """
    with recorded("back_up", job_id):
        kept = Path(directory)
        kept.mkdir(parents=True, exist_ok=True)
        partial = kept / f"{job_id}.partial"
        partial.unlink(missing_ok=True)
        try:
            _copy(source, partial, pause_s, stop_event)
            _check(partial)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ.sqlite3")
        partial.replace(kept / name)
        for old in sorted(kept.glob("*.sqlite3"))[:-keep]:
            old.unlink(missing_ok=True)
        _sweep(kept)
        return str(kept / name)


def _copy(source: str, target: Path, pause_s: float, stop_event: threading.Event) -> None:
    def step(_status: int, left: int, _total: int) -> None:
        if stop_event.is_set():
            msg = f"backup of {source} was asked to stop"
            raise JobCancelledError(msg)
        if left and pause_s:
            stop_event.wait(pause_s)

    # A missing source must be an error, not a new and empty database.
    uri = f"{Path(source).absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(uri, uri=True)) as reading,
        closing(sqlite3.connect(target)) as writing,
    ):
        if reading.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            # One snapshot for the whole copy, which in this mode holds no writer up. Otherwise
            # SQLite starts over when somebody writes, and `timeout_s` is the bound.
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reading.backup(writing, pages=_PAGES_A_STEP, progress=step, sleep=0.01)


def _check(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path)) as copy:
            found = [row[0] for row in copy.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        # Damage that even the check cannot read past.
        found = [str(error)]
    if found != ["ok"]:
        msg = f"{path.name} is not intact: {'; '.join(map(str, found[:3]))}"
        raise BackupError(msg)


def _sweep(directory: Path) -> None:
    """Remove what runs that died have left, an hour after their last write."""
    for path in directory.glob("*.partial*"):
        try:
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()
        except FileNotFoundError:
            continue
