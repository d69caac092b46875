"""What the chapters share: a server (the fixture ``redis_url``) and an instance on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quiv_dist import Quiv


@pytest.fixture
def quiv(redis_url: str, namespace: str) -> Iterator[Quiv]:
    """A scheduler and worker in this process, as ``Quiv()`` with ``QUIV_REDIS_URL`` set."""
    found = Quiv(redis_url=redis_url, namespace=namespace)
    yield found
    found.shutdown(timeout=5)
