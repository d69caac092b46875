"""The housekeeping handlers on real files and a real site: what they promise, and what they refuse.

Importing the package declares schedules, so it is given a configuration first.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from quiv_dist import JobCancelledError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "workers" / "housekeeping" / "example.toml"


@pytest.fixture(autouse=True)
def _configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSEKEEPING_CONFIG", str(EXAMPLE))
    monkeypatch.delenv("HOUSEKEEPING_LEDGER", raising=False)


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.sqlite3"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode=wal")
        database.execute("CREATE TABLE orders (item TEXT)")
        database.executemany("INSERT INTO orders VALUES (?)", [("x" * 1000,)] * 2000)
    return path


def back_up(
    source: Path,
    directory: Path,
    *,
    keep: int = 3,
    pause_s: float = 0.0,
    job_id: str = "job",
    stop_event: threading.Event | None = None,
) -> Path:
    from workers.housekeeping.backups import back_up

    return Path(
        back_up(str(source), str(directory), keep, pause_s, job_id, stop_event or threading.Event())
    )


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        found: int = database.execute("SELECT count(*) FROM orders").fetchone()[0]
        return found


# Backups ------------------------------------------------------------------------------------------


def test_a_backup_has_the_rows_and_is_the_only_file_left(orders: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    found = back_up(orders, kept)
    assert rows(found) == 2000
    assert [path.name for path in kept.iterdir()] == [found.name]


def test_the_oldest_backups_go(orders: Path, tmp_path: Path) -> None:
    made = [back_up(orders, tmp_path / "kept", keep=2) for _ in range(4)]
    assert sorted((tmp_path / "kept").iterdir()) == made[2:]


def test_a_backup_ends_and_is_one_moment_of_it_while_others_write(
    orders: Path, tmp_path: Path
) -> None:
    # Each step finds the source changed; without a snapshot SQLite starts over every time.
    written = threading.Event()

    class Writing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            with closing(sqlite3.connect(orders)) as database, database:
                database.execute("INSERT INTO orders VALUES ('new')")
            written.set()
            return False

    found = back_up(orders, tmp_path / "kept", pause_s=0.01, stop_event=Writing())
    assert written.is_set()
    assert rows(found) == 2000
    assert rows(orders) > 2000


def test_a_damaged_database_gives_no_backup(orders: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(orders)) as database:
        database.execute("PRAGMA journal_mode=delete")
    with orders.open("r+b") as file:
        file.seek(4096 * 20)
        file.write(b"\xff" * 4096)
    from workers.housekeeping.backups import BackupError

    with pytest.raises(BackupError, match="not intact"):
        back_up(orders, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_missing_database_is_an_error_and_not_an_empty_backup(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        back_up(tmp_path / "absent.sqlite3", tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_backup_that_is_asked_to_stop_leaves_nothing(orders: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobCancelledError):
        back_up(orders, tmp_path / "kept", stop_event=stop)
    assert list((tmp_path / "kept").iterdir()) == []


# Digests ------------------------------------------------------------------------------------------


def compare(root: Path, state: Path, stop: threading.Event | None = None) -> dict[str, int]:
    from workers.housekeeping.digests import compare_tree

    return compare_tree(str(root), str(state), "job", stop or threading.Event())


def test_what_changed_in_a_tree_is_told_once(tmp_path: Path) -> None:
    root, state = tmp_path / "tree", tmp_path / "state" / "tree"
    (root / "folder").mkdir(parents=True)
    for name in ("stays", "changes", "folder/goes"):
        (root / name).write_text(name)
    assert compare(root, state) == {"files": 3, "added": 3, "changed": 0, "removed": 0}

    (root / "changes").write_text("changed")
    (root / "folder" / "goes").unlink()
    (root / "folder" / "comes").write_text("new")
    assert compare(root, state) == {"files": 3, "added": 1, "changed": 1, "removed": 1}
    assert compare(root, state) == {"files": 3, "added": 0, "changed": 0, "removed": 0}

    reports = (tmp_path / "state" / "tree.changes.jsonl").read_text().splitlines()
    assert len(reports) == 2
    assert json.loads(reports[1]) == {
        "job_id": "job",
        "added": ["folder/comes"],
        "changed": ["changes"],
        "removed": ["folder/goes"],
    }


def test_a_tree_that_cannot_be_seen_is_no_empty_tree(tmp_path: Path) -> None:
    root, state = tmp_path / "tree", tmp_path / "state" / "tree"
    root.mkdir()
    (root / "file").write_text("x")
    compare(root, state)
    (root / "file").unlink()
    root.rmdir()
    with pytest.raises(NotADirectoryError):
        compare(root, state)
    root.mkdir()
    (root / "file").write_text("x")
    assert compare(root, state)["added"] == 0


def test_digests_that_are_asked_to_stop_keep_the_last_ones(tmp_path: Path) -> None:
    root, state = tmp_path / "tree", tmp_path / "state" / "tree"
    root.mkdir()
    (root / "file").write_text("x")
    compare(root, state)
    (root / "file").write_text("y")
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobCancelledError):
        compare(root, state, stop)
    assert compare(root, state)["changed"] == 1


# Sites --------------------------------------------------------------------------------------------


async def test_a_site_is_up_down_or_other_than_it_should_be() -> None:
    from workers.demo.site import TEXT, LocalSite
    from workers.housekeeping.sites import SiteDownError, check_site

    with LocalSite() as site:
        home, api = f"{site.url}/home", f"{site.url}/api"
        await check_site(home, TEXT, 5, "job")
        with pytest.raises(SiteDownError, match="'Goodbye' is not on the page"):
            await check_site(home, "Goodbye", 5, "job")
        with pytest.raises(SiteDownError, match="ReadTimeout"):
            await check_site(f"{site.url}/slow", TEXT, 0.05, "job")
        for _ in range(6):
            await check_site(api, TEXT, 5, "job")
        with pytest.raises(SiteDownError, match="status 503"):
            await check_site(api, TEXT, 5, "job")
    with pytest.raises(SiteDownError, match="ConnectError"):
        await check_site(home, TEXT, 5, "job")


# Ledger and configuration -------------------------------------------------------------------------


def test_the_ledger_tells_starts_ends_and_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.housekeeping.ledger import recorded

    path = tmp_path / "ledger.jsonl"
    monkeypatch.setenv("HOUSEKEEPING_LEDGER", str(path))
    with recorded("good", "1"):
        pass
    with pytest.raises(ZeroDivisionError), recorded("bad", "2"):
        _ = 1 / 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["phase"], line["handler"], line["job_id"]) for line in lines] == [
        ("start", "good", "1"),
        ("end", "good", "1"),
        ("start", "bad", "2"),
        ("failed", "bad", "2"),
    ]


def test_lines_of_many_writers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    program = (
        "from workers.housekeeping.ledger import recorded\n"
        "for number in range(500):\n"
        "    with recorded('handler', str(number)): pass\n"
    )
    environment = {
        "PYTHONPATH": str(ROOT),
        "HOUSEKEEPING_CONFIG": str(EXAMPLE),
        "HOUSEKEEPING_LEDGER": str(path),
    }
    writers = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(3)]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 3 * 500 * 2
    assert {line["pid"] for line in lines} == {writer.pid for writer in writers}


def test_the_example_configuration_is_read() -> None:
    from workers.housekeeping.config import load

    found = load()
    assert [site.name for site in found.site] == ["example"]
    assert found.database[0].path == EXAMPLE.parent / "orders.sqlite3"
    assert found.tree[0].path == Path("/etc/ssh")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("state = 's'\n[[site]]\nname = 'a'\nurl = 'u'\nevery = 5\n", "every"),
        ("state = 's'\n[[site]]\nname = 'a'\n", "url"),
        ("[[site]]\nname = 'a'\nurl = 'u'\n", "state"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    from workers.housekeeping.config import load

    path = tmp_path / "housekeeping.toml"
    path.write_text(text)
    monkeypatch.setenv("HOUSEKEEPING_CONFIG", str(path))
    with pytest.raises(msgspec.ValidationError, match=message):
        load()


def test_a_missing_configuration_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.housekeeping.config import load

    monkeypatch.setenv("HOUSEKEEPING_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(FileNotFoundError) as caught:
        load()
    assert "HOUSEKEEPING_CONFIG" in caught.value.__notes__[0]


def test_each_site_database_and_tree_is_a_declared_schedule() -> None:
    from workers.housekeeping import quiv

    declared = quiv.asynchronous.declared_tasks()
    assert [task.task_id for task in declared] == [
        "site:example",
        "backup:orders",
        "tree:configuration",
    ]
