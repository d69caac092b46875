from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from quiv_dist.context import job_context
from quiv_dist.core.stop import StopEvent
from quiv_dist.exceptions import JobCancelledError
from quiv_dist.models import StopReason
from quiv_dist.subprocesses import run_subprocess
from tests.unit.loops import DEADLINE_S, in_thread

if TYPE_CHECKING:
    from pathlib import Path

# Tells by a pipe that it runs (and can be signalled), then waits longer than any test.
ENDLESS = "{prepare}; echo r > /dev/fd/{fd}; exec sleep 600"
IGNORE_TERM = "trap '' TERM"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


class Endless:
    """A child that only ends by a signal, and the end of a pipe that tells when it runs."""

    def __init__(self, prepare: str = ":") -> None:
        self.read_fd, self.write_fd = os.pipe()
        self.args = ["sh", "-c", ENDLESS.format(prepare=prepare, fd=self.write_fd)]

    def then(self, act: Any) -> None:
        """Call ``act`` on another thread once the child runs."""

        def wait() -> None:
            os.read(self.read_fd, 1)
            act()

        in_thread(wait)

    def run(self, **kwargs: Any) -> subprocess.CompletedProcess[Any]:
        try:
            return run_subprocess(self.args, pass_fds=[self.write_fd], **kwargs)
        finally:
            os.close(self.write_fd)
            os.close(self.read_fd)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The return code of each child, as it was when run_subprocess was done with it."""
    codes: list[int | None] = []
    leave = subprocess.Popen.__exit__

    def record(self: subprocess.Popen[Any], *exc: Any) -> None:
        leave(self, *exc)
        codes.append(self.returncode)

    monkeypatch.setattr(subprocess.Popen, "__exit__", record)
    return codes


def test_it_returns_what_subprocess_run_returns() -> None:
    args = python("import sys; print(sys.stdin.read().upper()); sys.stderr.write('e'); sys.exit(3)")
    expected = subprocess.run(args, input="abc", capture_output=True, text=True, check=False)
    got = run_subprocess(args, input="abc", capture_output=True, text=True)
    assert (got.args, got.returncode, got.stdout, got.stderr) == (
        expected.args,
        expected.returncode,
        expected.stdout,
        expected.stderr,
    )
    assert (got.returncode, got.stdout, got.stderr) == (3, "ABC\n", "e")


def test_a_command_may_be_a_string_and_popen_arguments_pass_through(tmp_path: Path) -> None:
    got = run_subprocess("pwd; echo $X", shell=True, cwd=tmp_path, env={"X": "y"}, stdout=-1)
    assert got.stdout.decode().split() == [str(tmp_path), "y"]
    assert got.stderr is None


def test_much_output_and_input_pass_in_a_job() -> None:
    data = b"x" * 1_000_000
    with job_context(None, "job-1", StopEvent()):
        got = run_subprocess(["cat"], input=data, capture_output=True)
    assert got.stdout == data


def test_check_raises_with_output_and_only_for_a_non_zero_code() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_subprocess(python("print('o'); raise SystemExit(4)"), check=True, capture_output=True)
    assert (caught.value.returncode, caught.value.stdout) == (4, b"o\n")
    assert run_subprocess(python(""), check=True).returncode == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_capture_output_and_a_stream_are_refused(stream: str) -> None:
    kwargs: dict[str, Any] = {"capture_output": True, stream: subprocess.DEVNULL}
    with pytest.raises(ValueError, match="capture_output"):
        run_subprocess(["true"], **kwargs)


def test_input_and_stdin_are_refused() -> None:
    with pytest.raises(ValueError, match="stdin"):
        run_subprocess(["true"], input=b"", stdin=subprocess.DEVNULL)


def test_a_missing_command_raises_as_subprocess_run_does() -> None:
    with pytest.raises(FileNotFoundError):
        run_subprocess(["no-such-command-here"])


def test_the_jobs_stop_event_terminates_the_child(ended: list[int | None]) -> None:
    stop, child = StopEvent(), Endless()
    child.then(lambda: stop.set(StopReason.CANCEL))
    with job_context(None, "job-1", stop), pytest.raises(JobCancelledError, match="asked to stop"):
        child.run(kill_grace=DEADLINE_S)
    assert ended == [-signal.SIGTERM]
    assert stop.seen


def test_a_child_that_ignores_terminate_is_killed_after_the_grace(
    ended: list[int | None],
) -> None:
    stop, child = StopEvent(), Endless(IGNORE_TERM)
    child.then(stop.set)
    with pytest.raises(JobCancelledError):
        child.run(stop_event=stop, kill_grace=0.05, capture_output=True)
    assert ended == [-signal.SIGKILL]


def test_a_plain_event_stops_the_child_too(ended: list[int | None]) -> None:
    stop, child = threading.Event(), Endless()
    child.then(stop.set)
    with pytest.raises(JobCancelledError):
        child.run(stop_event=stop, kill_grace=DEADLINE_S)
    assert ended == [-signal.SIGTERM]


def test_a_given_event_wins_over_the_jobs(ended: list[int | None]) -> None:
    given, of_job, child = StopEvent(), StopEvent(), Endless()
    of_job.set()
    child.then(given.set)
    with job_context(None, "job-1", of_job), pytest.raises(JobCancelledError):
        child.run(stop_event=given)
    assert given.seen
    assert not of_job.seen


def test_an_event_set_before_stops_the_child_at_once(ended: list[int | None]) -> None:
    stop = StopEvent()
    stop.set()
    with pytest.raises(JobCancelledError):
        run_subprocess(python("import time; time.sleep(600)"), stop_event=stop)
    assert ended == [-signal.SIGTERM]


def test_a_child_that_ended_by_itself_is_not_cancelled_and_leaves_no_trace() -> None:
    stop = StopEvent()
    threads = set(threading.enumerate())
    assert run_subprocess(python("print(1)"), stop_event=stop, stdout=-1).stdout == b"1\n"
    stop.set()
    assert not stop.seen
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("prepare", [":", IGNORE_TERM])
def test_the_timeout_stops_the_child_and_raises_with_the_output(
    ended: list[int | None], prepare: str
) -> None:
    ignores = prepare == IGNORE_TERM
    args = ["sh", "-c", f"{prepare}; echo begun; exec sleep 600"]
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run_subprocess(
            args, timeout=1.5, kill_grace=0.05 if ignores else DEADLINE_S, capture_output=True
        )
    assert (caught.value.timeout, caught.value.output) == (1.5, b"begun\n")
    assert ended == [-signal.SIGKILL if ignores else -signal.SIGTERM]


def test_a_stop_that_is_under_way_wins_over_the_timeout(ended: list[int | None]) -> None:
    stop, child = StopEvent(), Endless(IGNORE_TERM)
    child.then(stop.set)
    with pytest.raises(JobCancelledError):
        child.run(stop_event=stop, timeout=1.0, kill_grace=1.5)
    assert ended == [-signal.SIGKILL]


def test_no_child_is_left_behind_by_an_error_in_between(ended: list[int | None]) -> None:
    with pytest.raises(TypeError):
        run_subprocess(python("import time; time.sleep(600)"), input="text for bytes")
    assert ended == [-signal.SIGKILL]
