"""Flags that several commands share. Each is also an environment variable, ``QUIV_*``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from quiv_dist.cli.logs import FORMATS, LEVELS
from quiv_dist.exceptions import ConfigurationError
from quiv_dist.node import package_version
from quiv_dist.runtime.checks import check_queue
from quiv_dist.store.keys import check_namespace

F = TypeVar("F", bound=Callable[..., Any])
SETTINGS = {"help_option_names": ["-h", "--help"]}

version_option = click.version_option(package_version(), prog_name="quiv-dist")


def option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """Declare an option that ``QUIV_`` and its long name set as well."""
    longest = max(names[0].split("/")[0], *names, key=len)
    attributes.setdefault("envvar", "QUIV_" + longest.lstrip("-").replace("-", "_").upper())
    attributes.setdefault("show_envvar", True)
    return click.option(*names, **attributes)


def group(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Return a decorator that adds these options, shown in this order."""

    def add(func: F) -> F:
        found: Any = func
        for one in reversed(options):
            found = one(found)
        result: F = found
        return result

    return add


def _check_namespace(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return value if value is None else check_namespace(value)
    except ConfigurationError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def _check_queues(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")]
    try:
        return tuple(dict.fromkeys(check_queue("queue", name) for name in names))
    except ConfigurationError as error:
        raise click.BadParameter(str(error), ctx, param) from error


app_dir = option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    show_default="the working directory",
    help="Where APP is imported from.",
)

server = group(
    option(
        "-u",
        "--redis-url",
        metavar="URL",
        help="The server: redis://, rediss:// or unix://. A password is better kept off the"
        " command line, in the variable.",
    ),
    option(
        "-n",
        "--namespace",
        callback=_check_namespace,
        show_default="quiv",
        help="Instances of one namespace are one fleet.",
    ),
    option(
        "--connect-timeout",
        "connect_timeout_s",
        type=click.FloatRange(min=0, min_open=True),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="How long the server is tried at the start; then the exit code is 4.",
    ),
)

logs = group(
    option(
        "-l",
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        default="info",
        show_default=True,
        help="The least level that is logged.",
    ),
    option(
        "--log-format",
        type=click.Choice(FORMATS, case_sensitive=False),
        default="text",
        show_default=True,
        help="Text, or one JSON object a line.",
    ),
)

shutdown = option(
    "--shutdown-timeout",
    "shutdown_timeout_s",
    type=click.FloatRange(min=0),
    default=25.0,
    show_default=True,
    metavar="SECONDS",
    help="How long running jobs may take to stop at the end; then they are handed back.",
)

worker = group(
    option(
        "-Q",
        "--queues",
        callback=_check_queues,
        default="default",
        show_default=True,
        metavar="NAME,…",
        help="The queues to serve, the most urgent first.",
    ),
    option(
        "-c",
        "--concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        default=100,
        show_default=True,
        help="How many coroutine handlers run at once.",
    ),
    option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        show_default="the application's pool_size",
        help="How many functions run at once.",
    ),
)

process = group(server, app_dir, logs, shutdown, version_option)

supervised = click.option("--supervised", is_flag=True, hidden=True)

app_option = click.option(
    "--app", metavar="APP", help="Take server and namespace from this application."
)

inspection = group(server, app_option, app_dir)

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
