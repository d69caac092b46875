"""``quiv up``: a whole fleet on one machine, as child processes.

Nothing is restarted: in development, a process that died is something to look at, so the first
one to end ends all of them, with its exit code.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

import click

from quiv_dist.cli import options
from quiv_dist.cli.errors import Command, ExitCode
from quiv_dist.cli.logs import has_colours

# A child that was told to end, and whose own limit is over, is killed after this.
_LAST_GRACE_S = 10.0
_COLOURS = ("\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[32m", "\x1b[33m")
_LONGEST_LINE = 1024 * 1024


@dataclass(frozen=True)
class Child:
    """One process to run: what its lines are marked with, its module and its arguments."""

    name: str
    module: str
    arguments: tuple[str, ...]


@click.command(cls=Command, context_settings=options.SETTINGS)
@click.argument("app", envvar="QUIV_APP")
@options.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    default=1,
    show_default=True,
    help="How many worker processes.",
)
@options.worker
@options.process
def up(app: str, *, workers: int, **given: Any) -> None:
    """Run a scheduler and workers of APP here, until interrupted or one of them ends.

    Without a server, an embedded one is used, which keeps its data in ./.quiv/. The tasks that
    APP declares replace those that are stored. Each line of the children is marked with the
    child's name, except with --log-format json.
    """
    context = click.get_current_context()
    serving = ("queues", "concurrency", "threads")
    shared = _arguments({name: value for name, value in given.items() if name not in serving})
    only_workers = _arguments({name: given[name] for name in serving})
    children = [
        Child("scheduler", "scheduler", (app, "--apply", *shared)),
        *(
            Child(f"worker.{number}", "worker", (app, *only_workers, *shared))
            for number in range(1, workers + 1)
        ),
    ]
    fleet = Fleet(
        marked=given["log_format"] != "json", grace_s=given["shutdown_timeout_s"] + _LAST_GRACE_S
    )
    context.exit(asyncio.run(fleet.run(children, _environment(given["redis_url"]))))


def _arguments(given: dict[str, Any]) -> tuple[str, ...]:
    """Return flags for the children that say what was said here; the URL is not among them."""
    flags = {
        "namespace": "--namespace",
        "connect_timeout_s": "--connect-timeout",
        "app_dir": "--app-dir",
        "log_level": "--log-level",
        "log_format": "--log-format",
        "shutdown_timeout_s": "--shutdown-timeout",
        "queues": "--queues",
        "concurrency": "--concurrency",
        "threads": "--threads",
    }
    found: list[str] = []
    for name, flag in flags.items():
        value = given.get(name)
        if value is not None:
            found += [flag, ",".join(value) if isinstance(value, tuple) else str(value)]
    return (*found, "--supervised") if "app_dir" in given else tuple(found)


def _environment(redis_url: str | None) -> dict[str, str]:
    # The URL may hold a password, and everybody on the machine can read command lines.
    url = {} if redis_url is None else {"QUIV_REDIS_URL": redis_url}
    # What handlers print is shown when they print it.
    return {**os.environ, **url, "PYTHONUNBUFFERED": "1"}


def _shell_code(code: int, *, asked: bool) -> int:
    """Return a child's exit code the way shells say it."""
    if asked and code == -signal.SIGTERM:
        return ExitCode.DONE  # it was told to end before it had begun
    return code if code >= 0 else ExitCode.SIGNALLED - code


class Fleet:
    """Child processes that live and end together."""

    def __init__(self, *, marked: bool, grace_s: float) -> None:
        self._marked = marked
        self._grace_s = grace_s
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._signals = 0
        self._asked = asyncio.Event()
        self._width = 0
        self._code: int | None = None

    async def run(self, children: list[Child], environment: dict[str, str]) -> int:
        """Run the children until a signal or the end of one; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heard, number)
        self._width = max(len(child.name) for child in children)
        lives = [
            asyncio.create_task(self._live(child, place, environment))
            for place, child in enumerate(children)
        ]
        await self._asked.wait()
        self._send(signal.SIGTERM)
        killing = loop.call_later(self._grace_s, self._send, signal.SIGKILL)
        codes = await asyncio.gather(*lives)
        killing.cancel()
        # The one that ended by itself says why the whole ends; the others only followed.
        return max(codes) if self._code is None else self._code

    async def _live(self, child: Child, place: int, environment: dict[str, str]) -> int:
        """Run one child; return its exit code, in the way shells say it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"quiv_dist.cli.{child.module}",
            *child.arguments,
            # It ends when this pipe does: were we killed, nobody else would end it.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            limit=_LONGEST_LINE,
            # A Ctrl-C in the terminal comes to us alone, and we pass it on once.
            start_new_session=True,
        )
        self._running[child.name] = process
        if self._asked.is_set():
            process.terminate()
        await self._copy(process, self._mark(child.name, place))
        code = _shell_code(await process.wait(), asked=self._asked.is_set())
        del self._running[child.name]
        if not self._asked.is_set():
            self._code = code
            self._say(f"{child.name} ended with exit code {code}, so everything ends")
        elif code:
            self._say(f"{child.name} ended with exit code {code}")
        self._asked.set()
        return code

    async def _copy(self, process: asyncio.subprocess.Process, mark: str) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readuntil()
            except asyncio.IncompleteReadError as end:
                line = end.partial + b"\n" if end.partial else b""
            except asyncio.LimitOverrunError as error:
                line = await process.stdout.readexactly(error.consumed) + b"\n"
            if not line:
                return
            sys.stdout.write(mark + line.decode(errors="replace"))
            sys.stdout.flush()

    def _mark(self, name: str, place: int) -> str:
        if not self._marked:
            return ""
        mark = f"{name.ljust(self._width)} | "
        if not has_colours(sys.stdout):
            return mark
        return f"{_COLOURS[place % len(_COLOURS)]}{mark}\x1b[0m"

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{'up'.ljust(self._width)} | {text}\n" if self._marked else f"{text}\n")
        sys.stderr.flush()

    def _heard(self, number: signal.Signals) -> None:
        self._signals += 1
        self._asked.set()
        if self._signals > 1:
            self._send(number)

    def _send(self, number: signal.Signals) -> None:
        for process in self._running.values():
            if process.returncode is None:
                process.send_signal(number)
