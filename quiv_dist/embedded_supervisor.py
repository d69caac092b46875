"""The process that runs the embedded Valkey server and ends it with its last user.

Started by `quiv_dist.embedded` as a script, isolated from the user's environment, so nothing but
the standard library may be imported here. It works inside the state directory and names every file
relative to it: a Unix socket's path may have about 100 bytes, a directory's may have more.

Three files are locked with flock(2), which the kernel releases however the holder died:

==================  =========  ====================================================================
lock                mode       holder
==================  =========  ====================================================================
`users.lock`        shared     every user, for as long as it uses the server
                    exclusive  the supervisor, from finding that no user is left to its own end;
                               a user who arrives in that time waits, then starts anew
`supervisor.lock`   exclusive  the supervisor: one for each directory
`server.lock`       exclusive  the server, by a descriptor it inherits: while it is held the
                               append-only file has a writer, so that no second one is started
==================  =========  ====================================================================

A supervisor that was killed leaves a server behind that goes on serving; the next user starts a
supervisor which finds `server.lock` held and takes that server over. A server that died while there
are users is started again from its append-only file.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

SOCKET = Path("valkey.sock")
USERS_LOCK = Path("users.lock")
SUPERVISOR_LOCK = Path("supervisor.lock")
SERVER_LOCK = Path("server.lock")
PID_FILE = Path("valkey.pid")
LOG = Path("valkey.log")

STARTED = 0
"""Exit code: this call started the supervisor."""
ALREADY_SUPERVISED = 3
"""Exit code: another supervisor holds the lock."""

TERMINATE_TIMEOUT_S = 5.0
"""How long the server may take to exit before it is killed. What it was told is in its file by
then; killing it costs no data."""

MAX_LOG_BYTES = 4 * 1024 * 1024
"""A larger log is set aside as `valkey.log.1` when the next supervisor starts."""

QUICK_DEATH_S = 2.0
MAX_QUICK_DEATHS = 3
"""A server that dies this often in a row within `QUICK_DEATH_S` of its start cannot run at all."""


class _Change(enum.Enum):
    """What the supervisor waits for."""

    USERS_GONE = enum.auto()
    SERVER_GONE = enum.auto()
    TOLD_TO_STOP = enum.auto()


def open_lock(path: Path) -> int:
    """Open a lock file, creating it; the descriptor is not inherited by other programs."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, operation: int) -> bool:
    """Take a lock (`LOCK_SH` or `LOCK_EX`) if that is possible at once."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Supervisor:
    """One server and the two locks that tell when it or its users are gone."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        # SimpleQueue.put is reentrant, which a signal handler needs.
        self._changes: queue.SimpleQueue[_Change] = queue.SimpleQueue()
        self._child: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._quick_deaths = 0

    def run(self) -> None:
        """Serve until the users are gone; then `users.lock` is held, so that none arrives."""
        signal.signal(signal.SIGTERM, lambda *_: self._changes.put(_Change.TOLD_TO_STOP))
        try:
            self._serve()
        finally:
            # Whatever went wrong, such as a directory removed under us: no server is left behind.
            self._end_child()

    def _serve(self) -> None:
        self._start_server()
        self._watch(USERS_LOCK, _Change.USERS_GONE)
        while True:
            change = self._changes.get()
            if change is not _Change.SERVER_GONE:
                self._stop_server()
                return
            if not self._may_restart():
                _log("the server does not stay up; giving up")
                return
            _log("the server is gone while it has users; starting it again")
            self._start_server()

    def _start_server(self) -> None:
        """Start the server, or take over one that an earlier supervisor left running."""
        lock = open_lock(SERVER_LOCK)
        try:
            if try_lock(lock, fcntl.LOCK_EX):
                # The server writes this file itself once it is up; until then it must not name
                # the process of an earlier one.
                PID_FILE.unlink(missing_ok=True)
                self._child = subprocess.Popen(  # noqa: S603 - the path comes from acquire()
                    _server_command(self._binary), stdin=subprocess.DEVNULL, pass_fds=(lock,)
                )
        finally:
            os.close(lock)
        self._started_s = time.monotonic()
        self._watch(SERVER_LOCK, _Change.SERVER_GONE)

    def _may_restart(self) -> bool:
        self._reap()
        quick = time.monotonic() - self._started_s < QUICK_DEATH_S
        self._quick_deaths = self._quick_deaths + 1 if quick else 0
        return self._quick_deaths < MAX_QUICK_DEATHS

    def _reap(self) -> None:
        """Collect the server's exit status, unless an earlier supervisor started it."""
        if self._child is not None:
            self._child.wait()
            self._child = None

    def _end_child(self) -> None:
        """End the server that this process started, by its handle: that needs no file."""
        child = self._child
        if child is None:
            return
        for end in (child.terminate, child.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(TERMINATE_TIMEOUT_S)
                return
            _log("the server does not end")

    def _stop_server(self) -> None:
        """Have the server write its file and exit; kill it if it does not in time."""
        if self._child is not None:
            self._end_child()
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            deadline_s = time.monotonic() + TERMINATE_TIMEOUT_S
            sent = False
            while time.monotonic() < deadline_s:
                if _is_free(SERVER_LOCK):
                    self._reap()
                    return
                # Read only while the lock is held: else the number may be another process's by now.
                pid = None if sent else _server_pid()
                if pid is not None:
                    sent = True
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal_number)
                time.sleep(0.01)
            _log(f"the server did not end on {signal_number.name}")

    def _watch(self, path: Path, change: _Change) -> None:
        """Report once that nobody else holds a lock; no polling, the kernel wakes the thread."""

        def wait() -> None:
            try:
                lock = open_lock(path)
            except FileNotFoundError:
                # The directory was removed, and nobody can come to use it any more.
                self._changes.put(_Change.TOLD_TO_STOP)
                return
            fcntl.flock(lock, fcntl.LOCK_EX)
            if change is _Change.SERVER_GONE:
                os.close(lock)
            self._changes.put(change)

        threading.Thread(target=wait, name=path.name, daemon=True).start()


def _server_command(binary: str) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(SOCKET),
        "unixsocketperm": "700",
        "pidfile": str(PID_FILE),
        "dir": ".",
        "daemonize": "no",
        # Standard output, which is the log file.
        "logfile": "",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        # Losing a task for want of memory must be an error that its writer sees.
        "maxmemory-policy": "noeviction",
    }
    return [binary, *(part for name, value in options.items() for part in (f"--{name}", value))]


def _server_pid() -> int | None:
    """The server's process id; None until it is up, for it writes the file then."""
    try:
        return int(PID_FILE.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _is_free(path: Path) -> bool:
    lock = open_lock(path)
    try:
        return try_lock(lock, fcntl.LOCK_EX)
    finally:
        os.close(lock)


def _log_to_file() -> None:
    """Send standard output and error, the server's too, to the log; set a large one aside."""
    with contextlib.suppress(FileNotFoundError):
        if LOG.stat().st_size > MAX_LOG_BYTES:
            LOG.replace(LOG.with_suffix(".log.1"))
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _log(message: str) -> None:
    print(f"{os.getpid()}:supervisor {message}", file=sys.stderr, flush=True)  # noqa: T201 - the log


def main(binary: str) -> int:
    """Become the supervisor of the current directory, in the background.

    Returns in the calling process as soon as the supervisor holds its lock; the user who started it
    has no child process to care for.

    Args:
        binary: absolute path of the server program.
    """
    lock = open_lock(SUPERVISOR_LOCK)
    if not try_lock(lock, fcntl.LOCK_EX):
        return ALREADY_SUPERVISED
    if os.fork():
        return STARTED
    # A terminal's Ctrl-C does not come here (new session), a closing terminal's hang-up neither.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(0o077)
    _log_to_file()
    _Supervisor(binary).run()
    # Before the kernel releases users.lock: who gets that one must find this one free.
    os.close(lock)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
