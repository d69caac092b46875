"""How the long-running commands fail to start: each way has its exit code."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest
import redis

from quiv_dist.store.keys import Keys
from tests.cli.conftest import Start
from tests.cli.processes import ROOT
from tests.conftest import OwnServer
from tests.servers import RedisServer, free_port

APP = ("tests.cli.shop", "--app-dir", str(ROOT))
COMMANDS = ("quiv-worker", "quiv-scheduler")


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_server_they_say_what_to_set_and_start_none(
    start: Start, tmp_path: Path, command: str
) -> None:
    process = start(command, *APP, cwd=tmp_path)
    assert process.ended() == 2
    process.line("no Redis is configured: set QUIV_REDIS_URL, or pass -u")
    assert list(tmp_path.iterdir()) == []


def test_an_application_that_needs_a_server_while_imported_starts_none_either(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "adding.py").write_text(
        "from quiv_dist import Quiv\n"
        "quiv = Quiv()\n"
        "def sweep(): ...\n"
        "quiv.add_task('sweep', sweep, interval=3600)\n"
    )
    process = start("quiv-worker", "adding", cwd=tmp_path)
    assert process.ended() == 2
    process.line("no Redis is configured")
    assert not (tmp_path / ".quiv").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_cannot_be_reached_is_4(start: Start, command: str) -> None:
    url = f"redis://user:sesame@127.0.0.1:{free_port()}/0"
    process = start(command, *APP, "-u", url, "--connect-timeout", "0.5")
    assert process.ended() == 4
    process.line("gave no answer in 0.5 s")
    assert "sesame" not in process.text


def test_a_server_that_takes_connections_and_never_answers_is_4(start: Start) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"redis://127.0.0.1:{listening.getsockname()[1]}/0"
        process = start("quiv-scheduler", "-u", url, "--connect-timeout", "0.5")
        assert process.ended() == 4


def test_a_server_that_comes_late_is_waited_for(start: Start, tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    process = start("quiv-scheduler", "-u", server.url)
    process.line("connecting to")
    with server:
        process.line("scheduler .* runs")
        assert process.stop() == 0


def test_a_signal_while_waiting_for_the_server_ends_it(start: Start) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    process = start("quiv-scheduler", "-u", url, "--connect-timeout", "60")
    process.line("connecting to")
    process.send(signal.SIGINT)
    assert process.ended() == 0
    process.line("SIGINT before the start: nothing to drain")


def test_a_wrong_password_is_2_and_is_not_logged(start: Start, own_server: OwnServer) -> None:
    server = own_server(options={"requirepass": "right"})
    url = server.url.replace("redis://", "redis://:sesame@")
    process = start("quiv-scheduler", "-u", url, "-l", "debug")
    assert process.ended() == 2
    process.line("refuses this user or database")
    assert "sesame" not in process.text


def test_the_right_password_is_not_logged_either(start: Start, own_server: OwnServer) -> None:
    server = own_server(options={"requirepass": "sesame"})
    url = server.url.replace("redis://", "redis://:sesame@")
    process = start("quiv-worker", *APP, "-l", "debug", QUIV_REDIS_URL=url)
    process.line("worker .* runs: namespace quiv on redis")
    assert process.stop() == 0
    assert "sesame" not in process.text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_schema_of_the_future_is_5(
    start: Start, redis_url: str, namespace: str, command: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.hset(Keys(namespace, 0).meta, mapping={"schema": 99, "incarnation": "x"})
        client.hset(Keys(namespace, 0).meta, mapping={"partition": 0, "partitions": 1})
    process = start(command, *APP, "-u", redis_url, "-n", namespace)
    assert process.ended() == 5
    process.line("has schema 99")


def test_an_application_that_raises_is_3_with_its_own_traceback_alone(
    start: Start, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("def half():\n    return 1 / 0\n\nhalf()\n")
    process = start("quiv-worker", "broken", "-u", redis_url, "-n", namespace, cwd=tmp_path)
    assert process.ended() == 3
    process.line("ERROR .*the application 'broken' cannot be imported")
    process.line("ZeroDivisionError")
    frames = [line for line in process.err if line.startswith("  File ")]
    assert len(frames) == 2
    assert all("broken.py" in line for line in frames)


def test_an_application_that_exits_is_3(
    start: Start, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    process = start("quiv-worker", "leaving", "-u", redis_url, "-n", namespace, cwd=tmp_path)
    assert process.ended() == 3


def test_failures_are_json_where_logs_are(
    start: Start, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('of no use')\n")
    process = start(
        "quiv-worker", "broken", "-u", redis_url, "-n", namespace,
        cwd=tmp_path, QUIV_LOG_FORMAT="json",
    )  # fmt: skip
    assert process.ended() == 3
    records = [json.loads(line) for line in process.err]
    assert records[-1]["level"] == "error"
    assert records[-1]["message"] == "the application 'broken' cannot be imported"
    assert "ValueError: of no use" in records[-1]["exc"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("tests.cli.shop", "--threads", "0"),
        ("tests.cli.shop", "-Q", "a:b"),
        ("tests.cli.shop", "-Q", "a,,b"),
        ("tests.cli.shop", "-n", "white space"),
        ("tests.cli.shop", "-l", "loud"),
        ("tests.cli.shop", "--connect-timeout", "0"),
        ("tests.cli.shop", "-u", "http://127.0.0.1"),
        ("tests/cli/shop.py",),
    ],
)
def test_what_is_not_accepted_is_2(
    start: Start, redis_url: str, namespace: str, arguments: tuple[str, ...]
) -> None:
    process = start("quiv-worker", *arguments, QUIV_REDIS_URL=redis_url, QUIV_NAMESPACE=namespace)
    assert process.ended() == 2
    assert "Traceback" not in process.text
