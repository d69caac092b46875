"""Real processes for the tests of the fleets, each ended by its own pid."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
END_S = 20.0


class Processes:
    """Processes of one test, with their output in files of its own directory."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        path = os.pathsep.join([str(directory), str(ROOT)])
        self.environment = {**os.environ, "PYTHONPATH": path, **environment}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.output(len(self._started)).open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def output(self, number: int) -> Path:
        return self.directory / f"process-{number}.log"

    def written(self, process: subprocess.Popen[bytes]) -> str:
        return self.output(self._started.index(process)).read_text("utf-8", "replace")

    def wait_for(self, what: str, condition: Callable[[], object], timeout_s: float = 20) -> None:
        """Return when a condition holds; fail with everybody's output when it does not in time."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                outputs = "\n".join(self.written(process)[-3000:] for process in self._started)
                raise AssertionError(f"waited {timeout_s:g} s in vain for {what}:\n{outputs}")
            time.sleep(0.02)

    def end_all(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.terminate()
        for process in self._started:
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def processes(directory: Path, redis_url: str, namespace: str) -> Iterator[Processes]:
    found = Processes(directory, {"QUIV_REDIS_URL": redis_url, "QUIV_NAMESPACE": namespace})
    try:
        yield found
    finally:
        found.end_all()
