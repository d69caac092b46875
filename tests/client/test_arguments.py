"""Arguments on their way through a worker: what is passed is what arrives."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, TypedDict

import msgspec
import pytest

from quiv_dist import ConfigurationError, Event, Quiv
from tests.client.faces import LIMIT_S, Heard, eventually

received: list[Any] = []


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    at: datetime


class Size(msgspec.Struct):
    width: int


class Options(TypedDict):
    deep: bool


def take(*args: Any, **kwargs: Any) -> None:
    kwargs = {key: value for key, value in kwargs.items() if key != "stop_event"}
    received.append((args, {key: kwargs[key] for key in kwargs if key in {"a", "b"}}))


def take_annotated(point: Point, colour: Colour, size: Size, options: Options) -> None:
    received.append((point, colour, size, options))


def take_point(point: Point) -> None:
    received.append(point)


@pytest.fixture(autouse=True)
def _empty() -> None:
    received.clear()


def run(quiv: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
    task_id = quiv.add_task("args", func, run_once=True, args=args, kwargs=kwargs)
    job = quiv.wait_for_task(task_id, LIMIT_S)
    assert job.status == "completed", job.error_message
    return received.pop()


STANDARD = [
    None, True, 0, -(2**63), 2**64 - 1, 2**200, 1.5, float("inf"), "", "é\x00\u2028", b"\xff\x00",
    [1, [2]], (1, (2, 3)), {"a": (1,)}, {1: "one"}, {1, 2}, frozenset({"x"}),
    datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 1, 2, tzinfo=UTC),  # noqa: DTZ001
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    date(2026, 1, 2), time(3, 4, 5), timedelta(days=-1, microseconds=7),
    uuid.UUID(int=7), Decimal("1.20"),
]  # fmt: skip


def test_standard_types_arrive_as_they_were_with_no_annotation(face: Any) -> None:
    args, kwargs = run(face, take, *STANDARD, a=STANDARD, b={"deep": tuple(STANDARD)})
    assert list(args) == STANDARD
    assert [type(value) for value in args] == [type(value) for value in STANDARD]
    assert kwargs == {"a": STANDARD, "b": {"deep": tuple(STANDARD)}}
    assert str(args[-1]) == "1.20"


def test_models_arrive_through_the_annotations(face: Any) -> None:
    given = (Point(1, datetime(2026, 1, 1, tzinfo=UTC)), Colour.RED, Size(3), {"deep": True})
    assert run(face, take_annotated, *given) == given


def test_a_task_read_elsewhere_shows_its_arguments(quiv: Quiv) -> None:
    task_id = quiv.add_task("args", take, interval=60, delay=60, args=(1, (2,)), kwargs={"a": {3}})
    task = quiv.get_task(task_id)
    assert (task.args, task.kwargs) == ((1, (2,)), {"a": {3}})


@pytest.mark.parametrize(
    ("func", "args", "names"),
    [
        (take, (object(),), "object"),
        (take, (Colour.RED,), "Colour"),
        (take, (Point(1, datetime(2026, 1, 1, tzinfo=UTC)),), "Point"),
        (take, (lambda: None,), "function"),
        (take_point, ("x",), "point"),
    ],
)
def test_what_would_not_come_back_is_refused_naming_the_argument(
    quiv: Quiv, func: Any, args: tuple[Any, ...], names: str
) -> None:
    with pytest.raises(ConfigurationError, match=names) as refusal:
        quiv.add_task("args", func, run_once=True, args=args)
    assert "args" in str(refusal.value) or "argument" in str(refusal.value)
    assert quiv.get_all_tasks(include_run_once=True) == []


def test_arguments_over_a_kibibyte_are_left_out_of_events_never_of_the_job(quiv: Quiv) -> None:
    heard = Heard()
    quiv.add_listener(Event.JOB_COMPLETED, heard)
    big = "x" * 2000
    args, _ = run(quiv, take, big)
    assert args == (big,)
    (call,) = heard.wait_for(Event.JOB_COMPLETED)
    task = call.payload[0]
    assert (task.args, task.args_omitted) == ((), True)


def test_jobs_carry_the_arguments_of_their_enqueueing(quiv: Quiv) -> None:
    quiv.add_task("args", take, interval=60, args=(1,), task_id="t", delay=0.1)
    quiv.wait_for_task("t", LIMIT_S)
    quiv.update_task("t", args=(2,))
    quiv.run_task_immediately("t")
    eventually(lambda: len(received) == 2, "the second run")
    assert [args for args, _ in received] == [(1,), (2,)]
