"""`quiv-scheduler` as a process: leading, and the tasks an application declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from quiv_dist import Quiv
from tests.cli.conftest import Start
from tests.cli.processes import CommandProcess

APP = """
from quiv_dist import Quiv

quiv = Quiv()

@quiv.task(interval={interval}, delay=3600, task_id="sweep")
def sweep(): ...
"""


@pytest.fixture
def schedule(
    start: Start, redis_url: str, namespace: str, tmp_path: Path
) -> Callable[..., CommandProcess]:
    """A scheduler of an application that declares one task with this interval."""

    def run(interval: int, *flags: str) -> CommandProcess:
        (tmp_path / "declaring.py").write_text(APP.format(interval=interval))
        at = ("-u", redis_url, "-n", namespace)
        process = start("quiv-scheduler", "declaring", *flags, *at, cwd=tmp_path)
        process.line("scheduler .* runs")
        return process

    return run


def test_without_an_application_it_leads_the_namespace_named(
    start: Start, redis_url: str, namespace: str
) -> None:
    scheduler = start("quiv-scheduler", QUIV_REDIS_URL=redis_url, QUIV_NAMESPACE=namespace)
    scheduler.line("leading with epoch")
    assert scheduler.stop() == 0


def test_it_adds_declared_tasks_that_are_missing(
    schedule: Callable[..., CommandProcess], client: Quiv
) -> None:
    assert schedule(10).stop() == 0
    assert client.get_task("sweep").interval_seconds == 10


def test_it_keeps_what_is_stored_and_logs_the_difference(
    schedule: Callable[..., CommandProcess], client: Quiv
) -> None:
    schedule(10).stop()
    scheduler = schedule(20)
    line = scheduler.line("task sweep is stored otherwise than declared")
    assert "WARNING" in line
    assert "schedule every 10 s -> every 20 s" in line
    assert scheduler.stop() == 0
    assert client.get_task("sweep").interval_seconds == 10


def test_apply_changes_what_is_stored(
    schedule: Callable[..., CommandProcess], client: Quiv
) -> None:
    schedule(10).stop()
    scheduler = schedule(20, "--apply")
    scheduler.line("is changed to: schedule every 10 s -> every 20 s")
    assert scheduler.stop() == 0
    assert client.get_task("sweep").interval_seconds == 20


def test_no_difference_is_not_logged(schedule: Callable[..., CommandProcess], client: Quiv) -> None:
    schedule(10).stop()
    scheduler = schedule(10)
    assert scheduler.stop() == 0
    assert "otherwise" not in scheduler.text
