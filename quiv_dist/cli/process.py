"""The life of a long-running command: connect, import, run, drain.

The server is reached before the application is imported, since the application may make calls
while it is. Nothing after a successful start is fatal but a signal.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from quiv_dist import embedded
from quiv_dist.cli import app as apps
from quiv_dist.cli import logs
from quiv_dist.cli.connection import NO_REDIS, check_connection, export, was_flag
from quiv_dist.cli.errors import ExitCode, Failure, reported
from quiv_dist.cli.signals import Interrupted, Signals
from quiv_dist.client import AsyncQuiv
from quiv_dist.config import DEFAULT_NAMESPACE
from quiv_dist.exceptions import QuivError
from quiv_dist.node import package_version
from quiv_dist.store.connection import redacted

_LOG = logging.getLogger("Quiv")


@dataclass(frozen=True)
class ProcessOptions:
    """The shared flags. ``supervised``: started by ``quiv up``, ends with it."""

    redis_url: str | None
    namespace: str | None
    connect_timeout_s: float
    app_dir: Path
    log_level: str
    log_format: str
    shutdown_timeout_s: float
    supervised: bool


@dataclass(frozen=True)
class Role:
    """What a command makes of the instance it runs.

    ``before`` is called with the instance before it starts. When ``drains``, the process ends
    when its worker has nothing to do.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    before: Callable[[AsyncQuiv], None] | None = None
    drains: bool = False


def run(role: Role, app: str | None, options: ProcessOptions) -> None:
    """Run a role until a signal ends it; the context ends with the exit code."""
    logs.set_up(options.log_level, options.log_format)
    context = click.get_current_context()
    with _logged(context), reported(), Signals() as signals:
        try:
            quiv = _prepare(role, app, options)
            signals.running()
        except Interrupted as interrupted:
            _LOG.info("%s before the start: nothing to drain", interrupted)
            return
        try:
            _serve(role, quiv, options, signals)
        finally:
            quiv.call_blocking(quiv.shutdown(options.shutdown_timeout_s))
        _LOG.info("ended")


@contextmanager
def _logged(context: click.Context) -> Iterator[None]:
    """Log what ends the process, in the format that its logs have."""
    try:
        yield
    except Failure as failure:
        _LOG.error("%s", failure.message, exc_info=failure.cause)
        context.exit(failure.exit_code)
    except Exception:  # noqa: BLE001 - logged in full, and the end of the process
        _LOG.critical("an unexpected error ends this process", exc_info=True)
        context.exit(ExitCode.UNEXPECTED)


def _prepare(role: Role, app: str | None, options: ProcessOptions) -> AsyncQuiv:
    """Return the instance, its server reached and its settings those of the flags."""
    export(options.redis_url, options.namespace)
    answered = None
    if options.redis_url is not None:
        answered = _check(options.redis_url, options.namespace, options)
    # Started by `quiv up`, a process uses the embedded server that all of them share.
    refusing = embedded.refusing(Failure(NO_REDIS, ExitCode.USAGE))
    with nullcontext() if options.supervised else refusing:
        name, quiv = (None, AsyncQuiv()) if app is None else apps.load(app, options.app_dir)
    changes = {"app": name, **role.changes}
    if was_flag("redis_url"):
        changes["redis_url"] = options.redis_url
    if was_flag("namespace"):
        changes["namespace"] = options.namespace
    quiv.configure(**changes)
    url = quiv.settings.redis_url or options.redis_url
    if url is None:
        if not options.supervised:
            raise Failure(NO_REDIS, ExitCode.USAGE)
    elif (url, quiv.settings.namespace or options.namespace) != answered:
        _check(url, quiv.settings.namespace or options.namespace, options)
    return quiv


def _check(url: str, namespace: str | None, options: ProcessOptions) -> tuple[str, str | None]:
    limit_s = options.connect_timeout_s
    _LOG.info("connecting to %s, for at most %g s", redacted(url), limit_s)
    asyncio.run(check_connection(url, namespace or DEFAULT_NAMESPACE, limit_s))
    return url, namespace


def _serve(role: Role, quiv: AsyncQuiv, options: ProcessOptions, signals: Signals) -> None:
    if role.before is not None:
        role.before(quiv)
    if options.supervised:
        _watch(_read_to_end, signals, "`quiv up` ended")
    quiv.call_blocking(quiv.start())
    _LOG.info("%s", _started(role, quiv))
    if role.drains:
        _watch(lambda: quiv.call_blocking(quiv.drained()), signals, "the queues are empty")
    cause = signals.wait()
    _LOG.info(
        "%s: ending; running jobs may take %g s, a second signal ends at once",
        cause, options.shutdown_timeout_s,
    )  # fmt: skip


def _started(role: Role, quiv: AsyncQuiv) -> str:
    url = quiv.settings.redis_url or os.environ.get("QUIV_REDIS_URL")
    namespace = quiv.settings.namespace or os.environ.get("QUIV_NAMESPACE") or DEFAULT_NAMESPACE
    where = redacted(url) if url else "the embedded server"
    return (
        f"{role.name} {package_version()} runs: namespace {namespace} on {where},"
        f" pid {os.getpid()}, node {quiv.engine.record.id}"
    )


def _watch(wait: Callable[[], object], signals: Signals, cause: str) -> None:
    """End the process when ``wait`` returns."""

    def watch() -> None:
        try:
            wait()
        except (QuivError, asyncio.CancelledError, CancelledError):
            return  # the process is ending already
        signals.end(cause)

    threading.Thread(target=watch, name="quiv-watch", daemon=True).start()


def _read_to_end() -> None:
    """Wait until whoever holds the other end of standard input is gone."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
