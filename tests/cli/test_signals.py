"""A signal ends the wait, however unluckily it comes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# The C handler runs on a thread that is not the main one, so no system call of the main thread
# is interrupted: as when the signal comes in the instant before that call.
ELSEWHERE = """
import signal, threading
from quiv_dist.cli.signals import Signals

def deliver():
    signal.pthread_kill(threading.get_ident(), signal.{name})

with Signals() as signals:
    signals.running()
    threading.Timer(0.3, deliver).start()
    print(signals.wait())
"""
EARLY = """
import signal
from quiv_dist.cli.signals import Signals

with Signals() as signals:
    signals.running()
    signal.raise_signal(signal.{name})
    print(signals.wait())
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(
    "program", [ELSEWHERE, EARLY], ids=["on_another_thread", "before_the_wait"]
)
def test_a_signal_ends_the_wait(program: str, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program.format(name=name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr


def test_a_cause_given_by_a_thread_ends_the_wait_and_the_first_counts() -> None:
    program = """
import threading
from quiv_dist.cli.signals import Signals
with Signals() as signals:
    signals.running()
    def end():
        signals.end("first")
        signals.end("second")
    threading.Timer(0.2, end).start()
    print(signals.wait())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.stdout == "first\n", done.stderr


def test_a_second_signal_ends_at_once() -> None:
    program = """
import signal
from quiv_dist.cli.signals import Signals
with Signals() as signals:
    signals.running()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert "a second signal (SIGTERM)" in done.stderr
