"""Chapter 2. Arguments travel through the server and arrive as they were."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from quiv_dist import ConfigurationError, Quiv

received: list[Any] = []


def ship(order: int, *, to: tuple[str, str], at: datetime) -> None:
    received.append((order, to, at))


def collect(value: Any) -> None:
    received.append(value)


def remember_id(job_id: str) -> None:
    received.append(job_id)


def test_positional_and_keyword_arguments(quiv: Quiv) -> None:
    quiv.start()
    at = datetime(2026, 5, 1, tzinfo=UTC)
    task_id = quiv.add_task(
        "ship", ship, run_once=True, args=(7,), kwargs={"to": ("Oslo", "NO"), "at": at}
    )
    quiv.wait_for_task(task_id, timeout=20)
    assert received.pop() == (7, ("Oslo", "NO"), at)


def test_what_would_not_arrive_is_refused_at_once(quiv: Quiv) -> None:
    with pytest.raises(ConfigurationError, match="order"):
        quiv.add_task("ship", ship, run_once=True, args=(7,))  # to and at are missing
    with pytest.raises(ConfigurationError, match=r"args\[0\]"):
        quiv.add_task("collect", collect, run_once=True, args=(open,))


def test_a_handler_may_ask_for_its_job_id(quiv: Quiv) -> None:
    quiv.start()
    task_id = quiv.add_task("remember", remember_id, run_once=True)
    assert quiv.wait_for_task(task_id, timeout=20).id == received.pop()
