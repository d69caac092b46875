"""What the fleet of the demonstration looks after: a site, databases and trees that change."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from workers.demo.site import TEXT, LocalSite

# Periods with no common multiple nearby, so that ticks spread out.
_PAGES_EVERY_S = {
    "home": 0.5,
    "shop": 0.6,
    "blog": 0.7,
    "api": 0.8,
    "docs": 0.9,
    "search": 1.1,
    "slow": 0.5,
}
_ROWS = 2_000
_ROW_BYTES = 1_000


class Estate:
    """Writes input and configuration below a directory, and changes the input while it lives."""

    def __init__(self, directory: Path) -> None:
        self.site = LocalSite()
        self.config = directory / "housekeeping.toml"
        self.tasks = len(_PAGES_EVERY_S) + 5
        self._database = directory / "orders.sqlite3"
        self._tree = directory / "documents"
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._change)

    def __enter__(self) -> Self:
        with closing(sqlite3.connect(self._database)) as orders, orders:
            orders.execute("PRAGMA journal_mode=wal")
            orders.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
            rows = ((f"{number:0{_ROW_BYTES}}",) for number in range(_ROWS))
            orders.executemany("INSERT INTO orders (item) VALUES (?)", rows)
        for folder in range(10):
            (self._tree / f"{folder}").mkdir(parents=True)
            for number in range(20):
                (self._tree / f"{folder}" / f"{number}.txt").write_text(f"{number}\n" * 500)
        self.site.__enter__()
        self.config.write_text(self._configuration(), "utf-8")
        self._writer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._writer.join()
        self.site.__exit__(kind, error, traceback)

    def _configuration(self) -> str:
        pages = [
            _table("site", name=name, url=f"{self.site.url}/{name}", contains=TEXT,
                   timeout_s=0.5 if name != "slow" else 5, every_s=every_s)
            for name, every_s in _PAGES_EVERY_S.items()
        ]  # fmt: skip
        return "\n".join([
            'state = "state"',
            *pages,
            _table("site", name="status", url=f"{self.site.url}/status", cron="* * * * * *"),
            _table("database", name="orders", path=self._database.name, pause_s=0.08, keep=3,
                   every_s=1.9),
            _table("database", name="orders-offsite", path=self._database.name, pause_s=0.06,
                   keep=3, cron="*/3 * * * * *"),
            _table("tree", name="documents", path=self._tree.name, every_s=1.3),
            _table("tree", name="documents-audit", path=self._tree.name, cron="*/2 * * * * *"),
        ])  # fmt: skip

    def _change(self) -> None:
        """Write orders and documents, as their owners do."""
        round_ = 0
        with closing(sqlite3.connect(self._database)) as orders:
            while not self._ended.wait(0.3):
                round_ += 1
                with orders:
                    orders.execute("INSERT INTO orders (item) VALUES (?)", (f"new {round_}",))
                path = self._tree / f"{round_ % 10}" / f"{round_ % 20}.txt"
                path.write_text(f"changed {round_}\n")


def _table(kind: str, **values: str | float) -> str:
    # A JSON string or number is a TOML one too.
    lines = (f"{name} = {json.dumps(value)}" for name, value in values.items())
    return "\n".join([f"[[{kind}]]", *lines, ""])
