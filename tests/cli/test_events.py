"""`quiv events`: the log from an id on, then what comes, each event once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest
import redis

from quiv_dist import Quiv
from quiv_dist.store.keys import Keys
from tests.cli import shop
from tests.cli.conftest import Ask, Start
from tests.cli.processes import ROOT, CommandProcess
from tests.conftest import OwnServer


@pytest.fixture
def at(redis_url: str, namespace: str) -> tuple[str, ...]:
    return "-u", redis_url, "-n", namespace


def _add(client: Quiv, name: str) -> None:
    client.add_task(name, shop.note, interval=60, delay=3600, args=("/tmp/a", name), task_id=name)


def _events(process: CommandProcess) -> list[dict[str, Any]]:
    assert process.stop_by(signal.SIGINT) == 0, process.text
    return [json.loads(line) for line in process.out]


def test_it_reads_the_log_and_goes_on_with_what_comes(
    start: Start, client: Quiv, at: tuple[str, ...]
) -> None:
    _add(client, "before")
    process = start("quiv", "events", "--since", "0", "--json", *at)
    process.line('"before"')
    _add(client, "after")
    process.line('"after"')
    client.pause_task("after", reason="to see it")
    process.line("task_paused")
    events = _events(process)
    assert [(event["type"], event["task"]["task_name"]) for event in events] == [
        ("task_added", "before"), ("task_added", "after"), ("task_paused", "after"),
    ]  # fmt: skip
    assert len({event["id"] for event in events}) == 3


def test_it_begins_after_the_id_given(start: Start, client: Quiv, at: tuple[str, ...]) -> None:
    for name in ("first", "second", "third"):
        _add(client, name)
    process = start("quiv", "events", "--since", "0", "--json", *at)
    process.line('"third"')
    first = _events(process)[0]
    process = start("quiv", "events", "--since", first["id"], "--json", *at)
    process.line('"third"')
    assert [event["task"]["task_name"] for event in _events(process)] == ["second", "third"]


def test_it_shows_the_kinds_asked_for(start: Start, client: Quiv, at: tuple[str, ...]) -> None:
    _add(client, "mail")
    client.pause_task("mail")
    client.resume_task("mail")
    process = start(
        "quiv", "events", "--since", "0", "--json", "-k", "task_paused", "-k", "task_resumed", *at
    )
    process.line("task_resumed")
    assert [event["type"] for event in _events(process)] == ["task_paused", "task_resumed"]


def test_what_the_log_no_longer_has_is_an_events_lost(
    start: Start, client: Quiv, at: tuple[str, ...], redis_url: str, namespace: str
) -> None:
    for name in ("first", "second", "third", "fourth"):
        _add(client, name)
    log = Keys(namespace, 0).key("log")
    with redis.Redis.from_url(redis_url) as server:
        ids = [entry_id.decode() for entry_id, _ in server.xrange(log)]
        server.xtrim(log, minid=ids[2], approximate=False)
    process = start("quiv", "events", "--since", ids[0], "--json", *at)
    process.line('"fourth"')
    lost, *rest = _events(process)
    assert lost["type"] == "events_lost"
    assert lost["gap"] == {"from_id": ids[0], "to_id": ids[2]}
    assert [event["task"]["task_name"] for event in rest] == ["third", "fourth"]
    process = start("quiv", "events", "--since", ids[1], "--json", *at)
    process.line('"fourth"')
    assert [event["type"] for event in _events(process)] == ["task_added", "task_added"]


def test_all_of_it_trimmed_is_an_events_lost_too(
    start: Start, client: Quiv, at: tuple[str, ...], redis_url: str, namespace: str
) -> None:
    _add(client, "first")
    _add(client, "second")
    log = Keys(namespace, 0).key("log")
    with redis.Redis.from_url(redis_url) as server:
        first = server.xrange(log, count=1)[0][0].decode()
        server.xtrim(log, maxlen=0, approximate=False)
    process = start("quiv", "events", "--since", first, *at)
    process.line(rf"events_lost +from {first} to the end")


def test_a_line_of_text_tells_the_job_and_its_error(
    start: Start, client: Quiv, at: tuple[str, ...]
) -> None:
    worker = start("quiv-worker", "tests.cli.shop", *at)
    worker.line("worker .* runs")
    run = client.handler()(shop.note).submit("/no/such/folder/file", "x")
    process = start("quiv", "events", "--since", "0", *at)
    line = process.line("job_failed")
    assert f"job {run.job_id}" in line
    assert "No such file or directory" in line


def test_it_follows_across_a_restart_of_the_server(start: Start, own_server: OwnServer) -> None:
    server = own_server(options={"appendonly": "yes", "appendfsync": "always"})
    client = Quiv(redis_url=server.url, roles={"listener"})
    _add(client, "before")
    process = start("quiv", "events", "--since", "0", "--json", "-u", server.url)
    process.line('"before"')
    server.restart()
    _add(client, "after")
    process.line('"after"')
    client.shutdown(0)
    names = [event["task"]["task_name"] for event in _events(process)]
    assert names == ["before", "after"]


def test_a_reader_that_has_enough_is_no_error(client: Quiv, at: tuple[str, ...]) -> None:
    _add(client, "first")
    command = [sys.executable, "-m", "quiv_dist.cli", "events", "--since", "0", *at]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "first" in process.stdout.readline()
        process.stdout.close()
        _add(client, "second")
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("since", ["yesterday", "1-2-3", "-1"])
def test_what_is_no_id_is_2(ask: Ask, since: str) -> None:
    result = ask("events", f"--since={since}")
    assert result.exit_code == 2
    assert "is no event id" in result.stderr
