"""A fleet of real processes: schedulers and workers, started, killed, frozen and continued."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from quiv_dist.client import AsyncQuiv
from quiv_dist.config import Settings
from quiv_dist.core.leases import node_of
from quiv_dist.core.wire import Envelope
from quiv_dist.store.namespace import Store
from tests.acceptance.fleet_app import LEDGER_VARIABLE
from tests.chaos.tape import Tape

ROOT = Path(__file__).parents[1]
APP = "tests.acceptance.fleet_app"
COMMANDS = {
    "scheduler": ("quiv_dist.cli.scheduler",),
    "worker": ("quiv_dist.cli.worker",),
    "application": ("tests.acceptance.application",),
}
JOIN_S = 30.0
END_S = 20.0
# A log whose bounds are lifted: a checker needs every event of the run.
UNBOUNDED = Settings(log_bytes=1 << 40)


def skewed(hours: int) -> dict[str, str]:
    """Environment that moves a process's wall clock, and no other, by whole hours."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is not installed (Debian: faketime)"
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": f"{hours:+d}h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


class Member:
    """One process of a fleet, in a process group of its own."""

    def __init__(self, name: str, command: list[str], log: Path, env: dict[str, str]) -> None:
        self.name = name
        self.log_path = log
        # Exit codes that what was done to it explains.
        self.may_end_with: set[int] = set()
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def signal(self, number: signal.Signals) -> float:
        """Send a signal to the process; return when, in seconds of the wall clock."""
        at_s = time.time()
        self._process.send_signal(number)
        return at_s

    def kill(self) -> float:
        """End it as a crash does, children included; return when."""
        self.may_end_with.add(-signal.SIGKILL)
        at_s = time.time()
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        return at_s

    def freeze(self) -> float:
        return self.signal(signal.SIGSTOP)

    def thaw(self) -> float:
        return self.signal(signal.SIGCONT)

    def terminate(self) -> float:
        """Ask it to drain; see `ended`."""
        self.may_end_with.add(0)
        return self.signal(signal.SIGTERM)

    async def ended(self, timeout_s: float = END_S) -> int:
        """Wait for its end; return its exit code."""
        return await asyncio.to_thread(self._process.wait, timeout_s)

    def destroy(self) -> None:
        """End it whatever it does, at the end of a test."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def tail(self, characters: int = 3000) -> str:
        return self.log_path.read_text(errors="replace")[-characters:]


class Fleet:
    """Processes of one namespace, the log of their events, and a client without roles.

    `url_for` gives each process the URL it connects to: the server's, or that of a link that a
    test can cut. Logs are files of `directory`, and are shown when a test fails.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        directory: Path,
        *,
        app: str = APP,
        settings: Settings = UNBOUNDED,
        url_for: Callable[[str], str] | None = None,
    ) -> None:
        self.app = app
        self.url = url
        self.namespace = namespace
        self.directory = directory
        self.ledger = directory / "ledger.jsonl"
        self.members: list[Member] = []
        # Process ids that were killed, frozen or cut off: they may lose their jobs.
        self.disturbed: set[int] = set()
        self._url_for = url_for or (lambda _: url)
        self._numbers = count(1)
        self._stack = AsyncExitStack()
        self.store = Store(url, namespace, settings)
        self.tape = Tape(url, namespace)
        self.client = AsyncQuiv(redis_url=url, namespace=namespace, roles={"listener"})

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ledger.touch()
        # First, so that the namespace is made with the bounds of its log lifted.
        await self.store.open()
        self._stack.push_async_callback(self.store.close)
        await self._stack.enter_async_context(self.tape)
        await self.client.start()
        self._stack.push_async_callback(self.client.shutdown, 5.0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for member in self.members:
            member.destroy()
        await self._stack.aclose()
        if error is not None:
            for member in self.members:
                error.add_note(f"--- {member.name} (pid {member.pid})\n{member.tail()}")

    # Processes ------------------------------------------------------------------------------------

    async def scheduler(self, *, env: dict[str, str] | None = None) -> Member:
        """Start a scheduler and wait until it has joined."""
        return await self.joined(self.launch("scheduler", env=env))

    async def worker(
        self,
        *,
        queues: str = "default",
        threads: int = 10,
        concurrency: int = 100,
        shutdown_timeout_s: float = 5.0,
        env: dict[str, str] | None = None,
    ) -> Member:
        """Start a worker and wait until it has joined."""
        flags = ["-Q", queues, "-c", str(concurrency), "--threads", str(threads)]
        flags += ["--shutdown-timeout", str(shutdown_timeout_s)]
        return await self.joined(self.launch("worker", *flags, env=env))

    def launch(self, role: str, *flags: str, env: dict[str, str] | None = None) -> Member:
        """Start a process of a role and return at once."""
        name = f"{role}-{next(self._numbers)}"
        command = [sys.executable, "-m", *COMMANDS[role]]
        if role != "application":
            command.append(self.app)
        command += ["-u", self._url_for(name), "-n", self.namespace, *flags]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            LEDGER_VARIABLE: str(self.ledger),
            **(env or {}),
        }
        member = Member(name, command, self.directory / f"{name}.log", environment)
        self.members.append(member)
        return member

    async def joined(self, member: Member, timeout_s: float = JOIN_S) -> Member:
        """Wait until a process has announced its node."""

        def has_joined(event: Envelope) -> bool:
            return event.type == "node_joined" and bool(event.node and event.node.pid == member.pid)

        try:
            await self.tape.first(has_joined, timeout_s=timeout_s, what=f"{member.name} joins")
        except TimeoutError:
            raise AssertionError(f"{member.name} did not join:\n{member.tail()}") from None
        return member

    def alive(self, role: str) -> list[Member]:
        """Return the processes of a role that have not ended, oldest first."""
        return [item for item in self.members if item.name.startswith(role) and item.alive]

    def by_pid(self, pid: int) -> Member:
        return next(item for item in self.members if item.pid == pid)

    def by_node(self, node_id: str) -> Member:
        """Return the process of a node."""
        return self.by_pid(self.tape.pid_of(node_id))

    async def leader(self, timeout_s: float = 15.0) -> Member:
        """Wait for a leader that is alive, and return its process."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            holder, until_ms = await self.store.reads().leader()
            node_id = node_of(holder)
            if holder and until_ms > await self.store.now_ms() and self.tape.knows(node_id):
                found = self.by_node(node_id)
                if found.alive:
                    return found
            await self.tape.changed(0.2)
        raise AssertionError("no leader")

    def disturb(self, member: Member) -> Member:
        """Note that a process may lose what it holds from now on, through no fault of its own."""
        self.disturbed.add(member.pid)
        return member

    def logs(self) -> Iterator[tuple[str, str]]:
        """Return the log of every process by its name."""
        for member in self.members:
            yield member.name, member.log_path.read_text(errors="replace")


async def until(
    condition: Callable[[], object], *, timeout_s: float, what: str, look_s: float = 0.05
) -> None:
    """Wait for a condition that nobody announces, for at most `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(look_s)
