"""Instances of both faces on a namespace of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from quiv_dist import AsyncQuiv, Quiv
from tests.client import jobs
from tests.client.faces import LoopThread, OnLoop

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _fresh_gates() -> Iterator[None]:
    jobs.reset()
    yield
    jobs.open_all()


@pytest.fixture
def make(redis_url: str, namespace: str) -> Iterator[Make]:
    """A factory of ``Quiv`` instances, shut down after the test."""
    with ExitStack() as stack:

        def factory(**options: Any) -> Quiv:
            quiv = Quiv(**{"redis_url": redis_url, "namespace": namespace, **options})
            stack.callback(quiv.shutdown, 5.0)
            # What still runs when a test fails must not hold up its end.
            stack.callback(jobs.open_all)
            return quiv

        yield factory


@pytest.fixture
def app_loop() -> Iterator[LoopThread]:
    """An application's event loop, running."""
    app = LoopThread()
    yield app
    app.close()


@pytest.fixture(params=["Quiv", "AsyncQuiv"])
def make_face(request: pytest.FixtureRequest, redis_url: str, namespace: str) -> Iterator[Make]:
    """A factory of instances of each face: ``Quiv`` without a loop, ``AsyncQuiv`` on one."""
    with ExitStack() as stack:

        def factory(**options: Any) -> Any:
            options = {"redis_url": redis_url, "namespace": namespace, **options}
            face: Any
            if request.param == "Quiv":
                face = Quiv(**options)
            else:
                app = LoopThread()
                stack.callback(app.close)
                face = OnLoop(AsyncQuiv(**options), app)
            stack.callback(face.shutdown, 5.0)
            stack.callback(jobs.open_all)
            return face

        yield factory


@pytest.fixture
def face(make_face: Make) -> Any:
    """A started instance of each face."""
    found = make_face()
    found.start()
    return found


@pytest.fixture
def quiv(make: Make) -> Quiv:
    """A started ``Quiv``, with no event loop anywhere."""
    found: Quiv = make()
    found.start()
    return found


@pytest.fixture
def threads_before() -> set[threading.Thread]:
    return set(threading.enumerate())
