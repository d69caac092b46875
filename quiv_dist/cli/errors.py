"""Exit codes, and how errors become them.

====  ==============================================================================
code  meaning
====  ==============================================================================
0     done, or drained after a first SIGTERM or SIGINT
1     unexpected, or refused because of the state of a task or job
2     usage or configuration; also an unknown task or job
3     the application cannot be imported
4     Redis cannot be reached at the start, after ``--connect-timeout``
5     the stored schema is not supported by this version
128+n  ended at once by a second signal n (143: SIGTERM, 130: SIGINT), as shells say it
====  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import TracebackType
from typing import Any

import click

from quiv_dist.exceptions import (
    ConfigurationError,
    HandlerRegistrationError,
    JobNotFoundError,
    QuivError,
    RedisUnavailableError,
    SchemaVersionError,
    TaskNotFoundError,
)

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class ExitCode(IntEnum):
    """What a command ends with."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    APP = 3
    UNREACHABLE = 4
    SCHEMA = 5
    SIGNALLED = 128


class Failure(click.ClickException):
    """An error that ends a command with a message and a code, and without a traceback.

    ``cause`` is shown after the message: the traceback of what is not ours.
    """

    def __init__(
        self, message: str, code: ExitCode | int, cause: ExceptionInfo | None = None
    ) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # click reads it of the instance
        self.cause = cause

    def show(self, file: Any = None) -> None:
        """Say it on standard error."""
        click.echo(f"error: {self.format_message()}", file=file, err=True)


_CODES: tuple[tuple[type[QuivError], ExitCode], ...] = (
    (SchemaVersionError, ExitCode.SCHEMA),
    (RedisUnavailableError, ExitCode.UNREACHABLE),
    (ConfigurationError, ExitCode.USAGE),
    (HandlerRegistrationError, ExitCode.USAGE),
    (TaskNotFoundError, ExitCode.USAGE),
    (JobNotFoundError, ExitCode.USAGE),
    (QuivError, ExitCode.UNEXPECTED),
)


@contextmanager
def reported() -> Iterator[None]:
    """Turn this package's errors into failures with their exit codes."""
    try:
        yield
    except QuivError as error:
        code = next(code for kind, code in _CODES if isinstance(error, kind))
        raise Failure(str(error), code) from error


class Command(click.Command):
    """A command whose errors end it with their exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with reported():
            return super().invoke(ctx)
