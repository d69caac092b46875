"""The processes of the demonstration: started, killed and drained, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_ROOT = Path(__file__).parents[2]
_DRAIN_S = 15.0


class DemoError(Exception):
    """The demonstration cannot go on; the message is for whoever watches it."""


@dataclass
class Member:
    """One process. ``doomed`` when its end was asked for."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    doomed: bool = False

    @property
    def pid(self) -> int:
        """Its process id, which its node tells in events too."""
        return self.process.pid


class Fleet:
    """Every process that was started, by name; leaving the context ends those that still run."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory = directory
        self._environment = {**os.environ, "PYTHONPATH": str(_ROOT), **environment}
        self.members: dict[str, Member] = {}

    def start(self, name: str, *command: str) -> Member:
        """Start a Python command: ``-m``, a module and its arguments."""
        log = self._directory / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - commands of this package
                [sys.executable, *command],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A Ctrl-C is for the demonstration, which ends them in order.
                start_new_session=True,
            )
        member = self.members[name] = Member(name, process, log)
        return member

    def role(self, role: str, name: str, *options: str) -> Member:
        """Start ``quiv-scheduler`` or ``quiv-worker`` on the housekeeping fleet.

        By module, so that it also works where the console scripts are not installed.
        """
        return self.start(name, "-m", f"quiv_dist.cli.{role}", "workers.housekeeping", *options)

    def running(self, role: str = "") -> list[Member]:
        """Return the members of a role that run and are meant to."""
        return [
            member
            for member in self.members.values()
            if member.name.startswith(role) and not member.doomed and member.process.poll() is None
        ]

    def named(self, pid: int) -> Member:
        """Return the member with a process id."""
        return next(member for member in self.members.values() if member.pid == pid)

    def kill(self, member: Member) -> int:
        """End a process as a crash does; return when, in ms since the epoch."""
        member.doomed = True
        at_ms = time.time_ns() // 1_000_000
        member.process.kill()
        member.process.wait()
        return at_ms

    def ask_to_end(self, member: Member) -> int:
        """Send SIGTERM; return when, in ms since the epoch."""
        member.doomed = True
        at_ms = time.time_ns() // 1_000_000
        member.process.terminate()
        return at_ms

    def check(self) -> None:
        """Raise if a member ended that was not meant to."""
        for member in self.members.values():
            if not member.doomed and member.process.poll() is not None:
                tail = member.log.read_text("utf-8", "replace")[-2000:]
                msg = f"{member.name} ended with code {member.process.returncode}:\n{tail}"
                raise DemoError(msg)

    def wait_for(self, what: str, condition: Callable[[], object], timeout_s: float) -> None:
        """Return when a condition holds, looking 50 times a second.

        Raises:
            DemoError: it did not hold in time, or a member ended that was not meant to.

        """
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self.check()
            if time.monotonic() > deadline_s:
                msg = f"waited {timeout_s:g} s in vain for {what}; logs are in {self._directory}"
                raise DemoError(msg)
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        left = [member.process for member in self.members.values() if member.process.poll() is None]
        for process in left:
            process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + _DRAIN_S
        for process in left:
            try:
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
