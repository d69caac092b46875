"""A place to start a fleet's processes in, on the shared server, in a namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.processes import Processes, processes


@pytest.fixture
def fleet(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Processes]:
    with processes(tmp_path, redis_url, namespace) as found:
        yield found
