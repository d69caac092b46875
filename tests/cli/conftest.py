"""Fixtures for tests of the commands."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from quiv_dist import Quiv
from quiv_dist.cli import main
from tests.cli.processes import CommandProcess

Start = Callable[..., CommandProcess]
Ask = Callable[..., Result]


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """Commands set up the root logger, as they may in a process of their own."""
    root, loops = logging.getLogger(), logging.getLogger("asyncio")
    handlers, level, loop_level = root.handlers[:], root.level, loops.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    loops.setLevel(loop_level)


@pytest.fixture(autouse=True)
def _environment_restored() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def client(redis_url: str, namespace: str) -> Iterator[Quiv]:
    """An instance in the test's own namespace that runs nothing."""
    quiv = Quiv(redis_url=redis_url, namespace=namespace, roles={"listener"})
    yield quiv
    quiv.shutdown(0)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start commands as processes; what still runs after the test is killed."""
    with ExitStack() as stack:

        def begin(
            command: str, *arguments: str, cwd: Path | None = None, **environment: str
        ) -> CommandProcess:
            return stack.enter_context(
                CommandProcess(command, arguments, cwd=cwd, environment=environment)
            )

        yield begin


@pytest.fixture
def ask(redis_url: str, namespace: str) -> Ask:
    """Run a `quiv` command in this process, against the test's own namespace."""

    def invoke(*arguments: str) -> Result:
        at = ("-u", redis_url, "-n", namespace)
        return CliRunner().invoke(main, [*arguments, *at], prog_name="quiv")

    return invoke
