"""`make demo`: it keeps its promises in a short run, and however it ends it leaves nothing behind.

Every process it starts works in, or is told of, a directory below TMPDIR, which is the test's own:
so those that are left can be found by it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.acceptance


@pytest.fixture
def temporary() -> Iterator[Path]:
    # Not tmp_path: pytest's paths are too long for a Unix socket.
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


@contextmanager
def started(temporary: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "workers.demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        try:
            yield demo
        finally:
            # Of a test that failed; it ends what it started.
            if demo.poll() is None:
                demo.terminate()


def processes_of(temporary: Path) -> set[int]:
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(temporary) in f"{process.cwd()} {process.cmdline()} {process.environ()}":
                found.add(process.pid)
    return found - {os.getpid()}


def no_process_is_left(temporary: Path) -> None:
    deadline_s = time.monotonic() + 10
    while left := processes_of(temporary):
        assert time.monotonic() < deadline_s, [psutil.Process(pid).cmdline() for pid in left]
        time.sleep(0.02)


def nothing_is_left(temporary: Path) -> None:
    no_process_is_left(temporary)
    assert list(temporary.iterdir()) == []


def figures(output: str) -> dict[str, str]:
    rows = re.findall(
        r"^  ([a-zA-Z].*?|  [a-z].*?) {2,}(\S+(?: ms| s)?)(?:  .*|)$", output, re.MULTILINE
    )
    return {name.strip(): value for name, value in rows}


def test_a_short_run_loses_and_doubles_nothing_and_leaves_nothing(temporary: Path) -> None:
    with started(temporary, "--seconds", "8") as demo:
        output, _ = demo.communicate(timeout=90)
    assert demo.returncode == 0, output
    nothing_is_left(temporary)

    found = figures(output)
    assert (found["lost"], found["doubled"]) == ("0", "0"), output
    due = int(found["ticks due"])
    outcomes = [int(found[name]) for name in ("enqueued", "skipped", "coalesced")]
    assert due == sum(outcomes)
    assert due > 80
    assert int(found["skipped"]) > 0
    assert int(found["handler starts"]) >= int(found["enqueued"]) > 80
    # The killed worker had a job in hand, so at least that one was started again.
    assert int(found["beyond the first"]) >= 1
    assert len(re.findall(r"kill -9 \d+: ", output)) == 2
    assert len(re.findall(r"nobody did for [\d.]+ s", output)) == 2
    assert re.search(r"drained on SIGTERM +8  of 8\n", output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_it_ends_everything(temporary: Path, number: signal.Signals) -> None:
    with started(temporary) as demo:
        assert demo.stdout is not None
        told = []
        for line in demo.stdout:
            told.append(line)
            if "are up" in line:
                break
        assert len(processes_of(temporary)) >= 8, told
        demo.send_signal(number)
        rest = demo.stdout.read()
        assert demo.wait(30) == 130, "".join(told) + rest
    assert "Traceback" not in rest
    nothing_is_left(temporary)


def test_a_process_that_ends_unasked_fails_it_and_the_logs_are_kept(temporary: Path) -> None:
    with started(temporary) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "are up" in line:
                break
        (log,) = temporary.glob("quiv-demo-*/worker-2.log")
        found = re.search(r" runs: .* pid (\d+)", log.read_text())
        assert found is not None
        os.kill(int(found[1]), signal.SIGKILL)
        rest = demo.stdout.read()
        assert demo.wait(30) == 1, rest
    assert "worker-2 ended with code -9" in rest
    assert f"kept in {log.parent}" in rest
    assert log.exists()
    no_process_is_left(temporary)
