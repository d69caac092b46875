"""A fleet of real processes on a server of its own, for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.conftest import OwnServer
from tests.fleet import Fleet
from tests.servers import RedisServer

pytestmark = pytest.mark.acceptance


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.acceptance)


@pytest.fixture
def server(own_server: OwnServer) -> RedisServer:
    """A server that keeps every write it acknowledged, whatever ends it."""
    return own_server(options={"appendonly": "yes", "appendfsync": "always"})


@pytest.fixture
async def fleet(server: RedisServer, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with Fleet(server.url, "fleet", tmp_path / "fleet") as running:
        yield running


Report = Callable[[str, list[float]], None]


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Print a distribution of seconds, and keep it with the result of the test."""

    def say(what: str, seconds: list[float]) -> None:
        ordered = sorted(seconds)
        parts = {"min": 0.0, "p50": 0.5, "p90": 0.9, "max": 1.0}
        last = len(ordered) - 1
        at = {name: ordered[min(last, int(len(ordered) * part))] for name, part in parts.items()}
        text = ", ".join(f"{name} {value:.3f} s" for name, value in at.items())
        print(f"\n{what}: {text} ({len(ordered)})")
        record_property(what, text)

    return say
