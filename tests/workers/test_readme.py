"""What the README shows is run: its programs, its commands, its links."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import websockets

from tests.servers import free_port
from tests.workers.processes import Processes

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
MODULES = {
    "quiv": "quiv_dist.cli",
    "quiv-scheduler": "quiv_dist.cli.scheduler",
    "quiv-worker": "quiv_dist.cli.worker",
}


def programs() -> dict[str, str]:
    """The Python blocks, by the file name in their first line."""
    blocks = re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return dict(blocks)


def commands() -> list[str]:
    """The commands of the table, one for each of its spans."""
    table = README.partition("## Commands")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [span for cell in cells for span in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture
def saved(fleet: Processes) -> Processes:
    """A directory with the README's files in it."""
    for name, text in programs().items():
        (fleet.directory / name).write_text(text)
    return fleet


def test_every_python_block_is_a_file_that_these_tests_run() -> None:
    assert set(programs()) == {"shop.py", "web.py"}
    assert README.count("```python") == 2
    assert len(README.splitlines()) < 150


def test_the_shop_runs_as_a_program(saved: Processes) -> None:
    shop = saved.start("shop.py")
    assert shop.wait(30) == 0, saved.written(shop)
    assert "logo.png is 64 pixels wide\n" in saved.written(shop)
    # Its interval's first tick is at once; whether it prints before the end is a race.
    assert "failed" not in saved.written(shop)


def test_the_shop_runs_with_quiv_up(saved: Processes) -> None:
    up = saved.start("-m", "quiv_dist.cli", "up", "shop")
    saved.wait_for("a tick", lambda: "every 30 seconds" in saved.written(up), 30)
    up.terminate()
    assert up.wait(30) == 0, saved.written(up)


async def test_the_web_application_tells_its_clients(saved: Processes) -> None:
    port = free_port()
    web = saved.start("-m", "uvicorn", "web:app", "--port", str(port))
    task_id = ""
    async with asyncio.timeout(30):
        while not task_id:
            found = await asyncio.to_thread(_command, saved, "quiv tasks list --json")
            task_id = json.loads(found.stdout or b"{}").get("id", "")
        async with await _connected(saved, web, port) as client:
            ran = await asyncio.to_thread(_command, saved, f"quiv tasks run {task_id}")
            assert ran.returncode == 0, ran.stderr
            message = json.loads(await client.recv())
    assert (message["event"], message["task"]) == ("job_completed", "clean up")


def test_every_command_of_the_table_is_accepted(saved: Processes) -> None:
    assert {shlex.split(command)[0] for command in commands()} == set(MODULES)
    for command in commands():
        # --help at the end: options and subcommands are checked, nothing is run.
        done = _command(saved, f"{command} --help")
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout.startswith(b"Usage: ")


def test_every_link_and_path_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    paths = re.findall(r"`((?:workers|deploy|docs|tests|quiv_dist)/[^`]*)`", README)
    for target in [link for link in links if "://" not in link] + paths:
        assert (ROOT / target).exists(), target


async def _connected(
    saved: Processes, web: subprocess.Popen[bytes], port: int
) -> websockets.ClientConnection:
    while True:
        assert web.poll() is None, saved.written(web)
        try:
            return await websockets.connect(f"ws://127.0.0.1:{port}/events")
        except OSError:
            await asyncio.sleep(0.05)


def _command(fleet: Processes, command: str) -> subprocess.CompletedProcess[bytes]:
    name, *arguments = shlex.split(command)
    return subprocess.run(
        [sys.executable, "-m", MODULES[name], *arguments],
        cwd=fleet.directory,
        env=fleet.environment,
        capture_output=True,
        check=False,
        timeout=30,
    )
