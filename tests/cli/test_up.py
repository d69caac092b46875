"""`quiv up`: a whole fleet on this machine, that lives and ends together."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import Start
from tests.cli.processes import DEADLINE_S, CommandProcess

SHOP = """
from quiv_dist import Quiv

quiv = Quiv()

@quiv.task(interval=0.2)
def tick():
    print("a tick was handled")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A working directory whose path is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="quiv-up-") as name:
        path = Path(name)
        (path / "shop.py").write_text(SHOP)
        yield path


@pytest.fixture
def up(start: Start, folder: Path) -> CommandProcess:
    """A fleet of two workers on an embedded server, with jobs running."""
    process = start("quiv", "up", "shop", "--workers", "2", cwd=folder)
    process.line(r"^worker\.1  \| .*runs: namespace quiv on the embedded server")
    process.line(r"^worker\.2  \| .*runs: namespace quiv on the embedded server")
    process.line(r"^worker\.\d  \| a tick was handled")
    return process


def _children(process: CommandProcess) -> list[psutil.Process]:
    return psutil.Process(process.process.pid).children()


def _all_gone(children: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(children, DEADLINE_S)[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_all_of_it(up: CommandProcess, number: signal.Signals) -> None:
    children = _children(up)
    assert len(children) == 3
    assert up.stop_by(number) == 0
    assert _all_gone(children)
    for name in ("scheduler", "worker.1 ", "worker.2 "):
        assert any(line.startswith(f"{name} | ") and "ended" in line for line in up.out)


def test_commands_in_its_directory_look_at_it(
    up: CommandProcess, start: Start, folder: Path
) -> None:
    nodes = start("quiv", "nodes", "--json", cwd=folder)
    assert nodes.ended() == 0, nodes.text
    roles = [json.loads(line)["roles"][0] for line in nodes.out]
    assert sorted(roles) == ["scheduler", "worker", "worker"]
    shown = start("quiv", "tasks", "show", "shop:tick", cwd=folder)
    assert shown.ended() == 0, shown.text
    shown.line("schedule +every 200ms")
    shown.line("^NEWEST JOBS")
    shown.line("^enqueued")
    assert shown.err == []


def test_a_child_that_dies_ends_the_whole(up: CommandProcess) -> None:
    children = _children(up)
    children[1].kill()
    assert up.ended() == 128 + signal.SIGKILL
    up.line(r"worker\.\d ended with exit code 137, so everything ends")
    assert _all_gone(children)


def test_nobody_outlives_it_when_it_is_killed(up: CommandProcess) -> None:
    children = _children(up)
    up.process.kill()
    assert _all_gone(children)


def test_an_application_that_cannot_be_imported_is_3(start: Start, folder: Path) -> None:
    (folder / "broken.py").write_text("raise ValueError('of no use')\n")
    process = start("quiv", "up", "broken", cwd=folder)
    assert process.ended() == 3
    process.line(r"\| ValueError: of no use")


def test_it_stores_what_the_application_declares_now(
    start: Start, folder: Path, redis_url: str, namespace: str
) -> None:
    at = ("-u", redis_url, "-n", namespace)
    for interval in ("0.2", "0.3"):
        (folder / "shop.py").write_text(SHOP.replace("0.2", interval))
        process = start("quiv", "up", "shop", *at, cwd=folder)
        process.line("a tick was handled")
        assert process.stop() == 0
    assert not (folder / ".quiv").exists()
    tasks = start("quiv", "tasks", "list", "--json", *at)
    assert tasks.ended() == 0
    assert json.loads(tasks.out[0])["interval_seconds"] == 0.3


def test_a_second_signal_ends_all_of_it_at_once(start: Start, folder: Path) -> None:
    (folder / "slow.py").write_text(
        "import threading\n" + SHOP.replace("print(", "threading.Event().wait(); print(")
    )
    process = start("quiv", "up", "slow", cwd=folder)
    process.line("'tick' .* started")
    children = _children(process)
    process.send(signal.SIGINT)
    process.line(r"worker\.1  \| .*SIGTERM: ending")
    process.send(signal.SIGINT)
    assert process.ended() == 128 + signal.SIGINT
    assert _all_gone(children)


def test_json_logs_stay_json(start: Start, folder: Path) -> None:
    process = start("quiv", "up", "shop", "--log-format", "json", cwd=folder)
    process.line("completed in")
    assert process.stop() == 0
    logged = [line for line in process.out if line != "a tick was handled"]
    assert logged
    assert all(isinstance(json.loads(line)["message"], str) for line in logged)


def test_the_password_is_on_no_command_line(start: Start, folder: Path) -> None:
    url = "redis://:sesame@127.0.0.1:1/0"
    process = start("quiv", "up", "shop", "--connect-timeout", "60", cwd=folder, QUIV_REDIS_URL=url)
    process.line(r"^scheduler \| .*connecting to redis://:\*\*\*@")
    assert not any("sesame" in " ".join(child.cmdline()) for child in _children(process))
    assert process.stop() == 0
    assert "sesame" not in process.text
