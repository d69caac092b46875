"""A child process that stops when its job is asked to.

A handler blocked in ``subprocess.run`` cannot look at its stop event. ``run_subprocess`` takes
the same arguments and ends the child when the event is set: terminate, then kill.
"""

from __future__ import annotations

import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from quiv_dist.context import current_job
from quiv_dist.core.stop import StopEvent
from quiv_dist.exceptions import JobCancelledError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# How often a plain threading.Event is looked at; a StopEvent calls by itself.
_POLL_S = 0.1


class _ChildStop:
    """Stops one child from another thread: terminate now, kill after the grace."""

    def __init__(self, child: subprocess.Popen[Any], kill_grace_s: float) -> None:
        self.requested = False
        self._child = child
        self._kill = threading.Timer(kill_grace_s, child.kill)
        self._kill.daemon = True

    def request(self) -> None:
        if self._child.poll() is not None:
            return
        self.requested = True
        self._child.terminate()
        self._kill.start()

    def close(self) -> None:
        # Should the timer start only now: it signals nothing once the child was reaped.
        self._kill.cancel()


@contextmanager
def _watching(stop_event: threading.Event | None, stop: _ChildStop) -> Iterator[None]:
    """Request the stop when the event is set, while the block runs."""
    ended = threading.Event()

    def poll(event: threading.Event) -> None:
        while not ended.is_set():
            if event.wait(_POLL_S):
                if not ended.is_set():
                    stop.request()
                return

    if isinstance(stop_event, StopEvent):
        stop_event.add_callback(stop.request)
    elif stop_event is not None:
        threading.Thread(
            target=poll, args=(stop_event,), name="quiv-subprocess-stop", daemon=True
        ).start()
    try:
        yield
    finally:
        ended.set()
        if isinstance(stop_event, StopEvent):
            stop_event.remove_callback(stop.request)
        stop.close()


def run_subprocess(
    args: Sequence[str] | str,
    *,
    input: Any = None,  # noqa: A002 - its name in subprocess.run
    stop_event: threading.Event | None = None,
    timeout: float | None = None,
    kill_grace: float = 5.0,
    check: bool = False,
    capture_output: bool = False,
    **popen_kwargs: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a command as ``subprocess.run`` does, ending it when the job is asked to stop.

    Only the child itself is stopped. Children of its own may outlive it, and as long as they
    hold its output open the call does not return; give it a session of its own with
    ``start_new_session=True`` where that matters. On Windows terminate and kill are the same.

    The call blocks its thread. In an async handler on a worker's loop use
    ``asyncio.to_thread``, through which the job is still found.

    Args:
        args: The command, as for ``subprocess.run``.
        input: Written to the child's standard input.
        stop_event: The event to obey. By default that of the current job, if there is one;
            to be passed in a thread that the handler started for itself.
        timeout: Seconds after which the child is stopped.
        kill_grace: Seconds between terminate and kill.
        check: Whether a non-zero return code raises.
        capture_output: Whether to collect standard output and error.
        **popen_kwargs: Passed to ``subprocess.Popen``.

    Returns:
        What ``subprocess.run`` returns.

    Raises:
        JobCancelledError: If the child was stopped because of the event. Let it pass.
        subprocess.TimeoutExpired: If the child was stopped because of ``timeout``; carries
            the output until then.
        subprocess.CalledProcessError: If ``check`` is true and the return code not zero.
        ValueError: If ``capture_output`` meets ``stdout`` or ``stderr``, or ``input`` meets
            ``stdin``.
    """
    _add_pipes(popen_kwargs, has_input=input is not None, capture_output=capture_output)
    job = current_job()
    if stop_event is None and job is not None:
        stop_event = job.stop_event

    with subprocess.Popen(args, **popen_kwargs) as child:  # noqa: S603 - the caller's command
        stop = _ChildStop(child, kill_grace)
        try:
            with _watching(stop_event, stop):
                stdout, stderr = _communicate(child, input, timeout, kill_grace, stop)
        except subprocess.TimeoutExpired:
            raise
        except BaseException:
            # As subprocess.run: whatever went wrong here, no child is left behind.
            child.kill()
            raise

    if stop.requested and stop_event is not None:
        # On the handler's behalf: it is about to learn that it was asked to stop.
        stop_event.is_set()
        name = args if isinstance(args, str) else str(args[0])
        message = f"{name} was stopped because its job was asked to stop"
        raise JobCancelledError(message)
    if check and child.returncode:
        raise subprocess.CalledProcessError(child.returncode, args, stdout, stderr)
    return subprocess.CompletedProcess(args, child.returncode, stdout, stderr)


def _add_pipes(popen_kwargs: dict[str, Any], *, has_input: bool, capture_output: bool) -> None:
    if has_input:
        if "stdin" in popen_kwargs:
            message = "input and stdin cannot be given together"
            raise ValueError(message)
        popen_kwargs["stdin"] = subprocess.PIPE
    if capture_output:
        if "stdout" in popen_kwargs or "stderr" in popen_kwargs:
            message = "capture_output cannot be given together with stdout or stderr"
            raise ValueError(message)
        popen_kwargs["stdout"] = popen_kwargs["stderr"] = subprocess.PIPE


def _communicate(
    child: subprocess.Popen[Any],
    data: Any,
    timeout_s: float | None,
    kill_grace_s: float,
    stop: _ChildStop,
) -> tuple[Any, Any]:
    """Feed and read the child until it ends; raise ``TimeoutExpired`` having stopped it."""
    try:
        return child.communicate(data, timeout=timeout_s)
    except subprocess.TimeoutExpired as expired:
        if stop.requested:
            # It is being stopped already; the first reason counts.
            return child.communicate()
        child.terminate()
        try:
            # A further communicate() goes on where the one before left off and loses nothing.
            stdout, stderr = child.communicate(timeout=kill_grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            stdout, stderr = child.communicate()
        raise subprocess.TimeoutExpired(expired.cmd, expired.timeout, stdout, stderr) from None
