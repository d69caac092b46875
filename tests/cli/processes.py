"""Commands as real processes whose output is waited for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import IO, Self

import quiv_dist

ROOT = Path(quiv_dist.__file__).parents[1]
MODULES = {
    "quiv": "quiv_dist.cli",
    "quiv-scheduler": "quiv_dist.cli.scheduler",
    "quiv-worker": "quiv_dist.cli.worker",
}
DEADLINE_S = 20.0
_PYTHON = {
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
    # A module written twice within a second would be taken from the cache.
    "PYTHONDONTWRITEBYTECODE": "1",
}


class CommandProcess:
    """One command. Its standard output and error are kept apart, line by line."""

    def __init__(
        self,
        command: str,
        arguments: Sequence[str],
        *,
        cwd: Path | None,
        environment: Mapping[str, str],
    ) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", MODULES[command], *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **_PYTHON, **environment},
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=pair)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def line(self, pattern: str, *, deadline_s: float = DEADLINE_S) -> str:
        """The first line of either output in which the pattern is found, awaited."""
        end_s = monotonic() + deadline_s
        with self._changed:
            while True:
                for line in (*self.out, *self.err):
                    if re.search(pattern, line):
                        return line
                reading = any(reader.is_alive() for reader in self._readers)
                assert reading, f"ended without {pattern!r}:\n{self.text}"
                assert monotonic() < end_s, f"no {pattern!r} in time:\n{self.text}"
                self._changed.wait(0.5)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, *, deadline_s: float = DEADLINE_S) -> int:
        """Its exit code, awaited; all of its output is there then."""
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end:\n{self.text}") from None
        for reader in self._readers:
            reader.join(deadline_s)
        return code

    def stop(self) -> int:
        """The exit code of a drain."""
        return self.stop_by(signal.SIGTERM)

    def stop_by(self, number: signal.Signals) -> int:
        """The exit code after one signal."""
        self.send(number)
        return self.ended()

    @property
    def text(self) -> str:
        return "\n".join((*self.out, *self.err))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _read(self, pipe: IO[str], lines: list[str]) -> None:
        for line in pipe:
            with self._changed:
                lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()
