"""Bad input is refused at the call, before anything is stored, naming parameter and value."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import redis

from quiv_dist import (
    AsyncQuiv,
    ConfigurationError,
    Event,
    HandlerRegistrationError,
    InvalidTimezoneError,
    Quiv,
    QuivConfig,
)
from quiv_dist.store.keys import Keys
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard, eventually


def old_names(_job_id: str, _stop_event: Any) -> None:
    """A handler as before quiv 1.0."""


def takes_stop_event(stop_event: Any) -> None:
    """A handler that is given its stop event."""


INF, NAN = math.inf, math.nan

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    # parameters, what the message names, what it says is accepted
    ({"task_name": ""}, "task_name=''", "not blank"),
    ({"task_name": " \t"}, "task_name=' \\t'", "not blank"),
    ({"task_name": "a\nb"}, "task_name='a\\nb'", "printable"),
    ({"task_name": 5}, "task_name=5", "text"),
    ({"interval": 0}, "interval=0", "0.01"),
    ({"interval": 0.001}, "interval=0.001", "0.01"),
    ({"interval": -1}, "interval=-1", "0.01"),
    ({"interval": NAN}, "interval=nan", "number"),
    ({"interval": INF}, "interval=inf", "number"),
    ({"interval": True}, "interval=True", "number"),
    ({"interval": "60"}, "interval='60'", "number"),
    ({"interval": None}, "interval=None", "cron="),
    ({"interval": 60, "cron": "* * * * *"}, "interval and cron", "mutually exclusive"),
    ({"run_once": True, "cron": "* * * * *"}, "cron and run_once", "mutually exclusive"),
    ({"interval": None, "cron": "0 0 30 2 *"}, "0 0 30 2 *", "never"),
    ({"interval": None, "cron": "* * *"}, "* * *", "field"),
    ({"interval": None, "cron": "99 * * * *"}, "99 * * * *", "99"),
    ({"interval": None, "cron": ""}, "cron=''", ""),
    ({"interval": None, "cron": 5}, "cron=5", "string"),
    ({"interval": None, "cron": "* * * * *", "cron_timezone": "Mars/Base"}, "Mars/Base", "IANA"),
    ({"interval": None, "cron": "* * * * *", "cron_timezone": ""}, "''", "IANA"),
    ({"interval": None, "cron": "* * * * *", "cron_timezone": None}, "None", "IANA"),
    ({"delay": -1}, "delay=-1", "0 or more"),
    ({"delay": NAN}, "delay=nan", "0 or more"),
    ({"delay": "5"}, "delay='5'", "number"),
    ({"run_at": "noon"}, "run_at='noon'", "datetime"),
    ({"run_at": dt.date(2030, 1, 1)}, "run_at=datetime.date(2030, 1, 1)", "datetime"),
    ({"run_at": dt.datetime(2030, 1, 1), "delay": 1}, "delay=1", "mutually exclusive"),  # noqa: DTZ001
    ({"timeout": 0}, "timeout=0", "more than 0"),
    ({"timeout": NAN}, "timeout=nan", "more than 0"),
    ({"timeout": "1"}, "timeout='1'", "number"),
    ({"max_retries": -1}, "max_retries=-1", "0 or more"),
    ({"max_retries": 1.5}, "max_retries=1.5", "whole number"),
    ({"max_retries": True}, "max_retries=True", "whole number"),
    ({"retry_backoff": 0}, "retry_backoff=0", "more than 0"),
    ({"retry_backoff": NAN}, "retry_backoff=nan", "more than 0"),
    ({"retry_backoff": INF}, "retry_backoff=inf", "finite"),
    ({"jitter": INF, "run_once": True}, "jitter=inf", "finite"),
    ({"max_retries": 2**31}, "max_retries=2147483648", "2**31"),
    ({"retry_backoff_max": -1}, "retry_backoff_max=-1", "more than 0"),
    ({"jitter": -1}, "jitter=-1", "0 or more"),
    ({"jitter": NAN}, "jitter=nan", "0 or more"),
    ({"queue": ""}, "queue=''", "not blank"),
    ({"queue": "a b"}, "queue='a b'", "blanks"),
    ({"queue": "@node"}, "queue='@node'", "'@'"),
    ({"priority": "urgent"}, "priority='urgent'", "'high', 'normal', 'low'"),
    ({"max_crashes": 0}, "max_crashes=0", "1 or more"),
    ({"task_id": ""}, "task_id=''", "not blank"),
    ({"task_id": "  "}, "task_id='  '", "not blank"),
    ({"task_id": "x" * 300}, "task_id='xxx", "200"),
    ({"task_id": "a\x00b"}, "task_id='a\\x00b'", "printable"),
    ({"if_exists": "perhaps"}, "if_exists='perhaps'", "'replace', 'keep', 'error'"),
    ({"args": [1]}, "args=[1]", "tuple"),
    ({"args": "ab"}, "args='ab'", "tuple"),
    ({"kwargs": [1]}, "kwargs=[1]", "dict"),
    ({"kwargs": {1: 2}}, "1", "kwargs"),
    ({"args": (object(),)}, "args[0]", "object"),
    ({"kwargs": {"deep": {"x": [object()]}}}, "deep", "object"),
    ({"func": old_names}, "_job_id", "rename"),
    ({"func": takes_stop_event, "kwargs": {"stop_event": 1}}, "stop_event", "rename"),
    ({"func": jobs.all_three, "kwargs": {"job_id": 1}}, "job_id", "rename"),
]  # fmt: skip


def _label(value: object) -> str:
    """Name a case the same in every process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))[:40]


@pytest.mark.parametrize(("given", "names", "accepted"), REFUSED, ids=_label)
def test_add_task_refuses(quiv: Quiv, given: dict[str, Any], names: str, accepted: str) -> None:
    heard = Heard()
    quiv.add_listener(Event.TASK_ADDED, heard)
    given = {"task_name": "t", "func": jobs.note, "interval": 60, **given}
    with pytest.raises(ConfigurationError) as refusal:
        quiv.add_task(**given)
    assert names in str(refusal.value)
    assert accepted.lower() in str(refusal.value).lower()
    assert quiv.get_all_tasks(include_run_once=True) == []
    assert heard.calls == []


@pytest.mark.parametrize("given", [case[0] for case in REFUSED[:6]], ids=str)
def test_the_asynchronous_face_refuses_the_same(make_face: Make, given: dict[str, Any]) -> None:
    face = make_face()
    with pytest.raises(ConfigurationError):
        face.add_task(**{"task_name": "t", "func": jobs.note, "interval": 60, **given})


@pytest.mark.parametrize("func", [None, "name", 5])
def test_a_handler_that_cannot_be_called(face: Any, func: Any) -> None:
    with pytest.raises(HandlerRegistrationError, match=re.escape(repr(func))):
        face.add_task("t", func, interval=60)
    with pytest.raises(HandlerRegistrationError, match="progress_callback"):
        face.add_task("t", jobs.note, interval=60, progress_callback="x")
    assert face.get_all_tasks() == []


FAR = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def test_a_resume_may_be_far_away_too(quiv: Quiv) -> None:
    task_id = quiv.add_task("t", jobs.note, interval=60, delay=60)
    quiv.pause_task(task_id)
    quiv.resume_task(task_id, delay=INF)
    assert quiv.get_task(task_id).next_run_at.year == 9999


@pytest.mark.parametrize(
    "given",
    [
        {"run_at": dt.datetime(2030, 1, 1)},  # noqa: DTZ001 - a naive datetime is UTC
        {"run_at": FAR},
        {"delay": 1e15},
        {"delay": INF},
        {"timeout": INF},
        {"retry_backoff": 1e300},
        {"retry_backoff_max": INF},
        {"timeout": 1e300},
        {"jitter": 1e300},
        {"interval": 1e15, "run_once": False, "delay": 60},
        {"interval": 1e300, "run_once": False, "delay": 60},
    ],
    ids=str,
)
def test_what_is_far_away_is_kept_as_far_as_the_calendar_goes(
    quiv: Quiv, given: dict[str, Any]
) -> None:
    task_id = quiv.add_task(
        **{"task_name": "t", "func": jobs.note, "run_once": True, "delay": None, **given}
        if "run_at" in given
        else {"task_name": "t", "func": jobs.note, "run_once": True, "delay": 60, **given}
    )
    task = quiv.get_task(task_id)
    assert task.next_run_at > dt.datetime.now(dt.UTC)
    assert task.next_run_at.year in {2026, 2030, 9999} or "delay" not in given
    quiv.remove_task(task_id)


class TestConstructor:
    @pytest.mark.parametrize("face", [Quiv, AsyncQuiv])
    @pytest.mark.parametrize(
        ("given", "names"),
        [
            ({"namespace": "a{b}"}, "namespace='a{b}'"),
            ({"namespace": "a b"}, "namespace='a b'"),
            ({"namespace": ""}, "namespace=''"),
            ({"roles": {"boss"}}, "roles={'boss'}"),
            ({"roles": "worker"}, "roles='worker'"),
            ({"roles": set()}, "roles=set()"),
            ({"roles": 5}, "roles=5"),
            ({"redis_url": "http://localhost"}, "redis_url='http://localhost'"),
            ({"redis_url": "localhost:6379"}, "redis_url='localhost:6379'"),
            ({"redis_url": ""}, "redis_url=''"),
            ({"redis_url": 5}, "redis_url=5"),
            ({"redis_url": "redis://host:port"}, "redis_url='redis://host:port'"),
            ({"pool_size": 0}, "pool_size=0"),
            ({"pool_size": True}, "pool_size=True"),
            ({"history_retention_seconds": -1}, "history_retention_seconds=-1"),
            ({"config": QuivConfig(), "pool_size": 3}, "mutually exclusive"),
        ],
    )
    def test_refuses(self, face: Any, given: dict[str, Any], names: str) -> None:
        with pytest.raises(ConfigurationError, match=re.escape(names)):
            face(**given)

    def test_an_unknown_zone(self) -> None:
        with pytest.raises(InvalidTimezoneError, match="Mars/Base"):
            Quiv(timezone="Mars/Base")

    def test_no_message_shows_a_password(self) -> None:
        for url in ("http://me:secret@host", "redis://me:secret@host:port"):
            with pytest.raises(ConfigurationError) as refusal:
                Quiv(redis_url=url)
            assert "secret" not in str(refusal.value)

    def test_a_bad_url_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("QUIV_REDIS_URL", "http://localhost")
        quiv = Quiv()
        with pytest.raises(ConfigurationError, match="http://localhost"):
            quiv.get_all_tasks()

    def test_a_handler_that_cannot_be_named(self) -> None:
        with pytest.raises(HandlerRegistrationError, match="importable name"):
            Quiv(handlers=[lambda: None])


class TestDecorators:
    @pytest.mark.parametrize("kind", ["task", "handler"])
    def test_a_function_without_a_name(self, make: Make, kind: str) -> None:
        quiv = make()
        options = {"interval": 60} if kind == "task" else {}
        with pytest.raises(HandlerRegistrationError, match="importable name"):
            getattr(quiv, kind)(**options)(lambda: None)

    @pytest.mark.parametrize(
        ("given", "names"),
        [
            ({}, "interval=None"),
            ({"interval": 60, "cron": "* * * * *"}, "mutually exclusive"),
            ({"interval": 60, "task_id": " "}, "task_id=' '"),
            ({"interval": 60, "max_retries": -1}, "max_retries=-1"),
            ({"interval": 60, "args": (object(),)}, "args[0]"),
        ],
    )
    def test_bad_declarations(self, make: Make, given: dict[str, Any], names: str) -> None:
        with pytest.raises(ConfigurationError, match=re.escape(names)):
            make().task(**given)(jobs.note)

    def test_bad_handler_options(self, make: Make) -> None:
        with pytest.raises(ConfigurationError, match="timeout=0"):
            make().handler(timeout=0)


class TestForeignBytes:
    """What somebody else wrote into the server."""

    @pytest.fixture
    def write(self, redis_url: str, namespace: str) -> Any:
        with redis.Redis.from_url(redis_url) as client:

            def add(fields: dict[Any, Any], priority: str = "normal") -> None:
                client.xadd(Keys(namespace).stream("default", priority), fields)

            yield add

    def test_garbage_in_a_stream_harms_no_neighbour(
        self, quiv: Quiv, write: Callable[..., None], redis_url: str, namespace: str
    ) -> None:
        for fields in ({b"\xff\x00": b"\xfe"}, {"id": "no-such-job"}, {"x": "y" * 5000}):
            write(fields, "high")
        task_id = quiv.add_task("after", jobs.note, run_once=True)
        assert quiv.wait_for_task(task_id, LIMIT_S).status == "completed"
        keys = Keys(namespace)
        with redis.Redis.from_url(redis_url) as client:
            eventually(lambda: client.xlen(keys.stream("default", "high")) == 0, "the sweep")
            kept = client.lrange(keys.key("malformed"), 0, -1)
        assert any(b"79" * 5000 in entry for entry in kept)  # its bytes, in hexadecimal
        assert quiv.is_ready

    @pytest.mark.parametrize(
        ("field", "value", "says"),
        [
            ("args", b"\xc1garbage", "argument"),
            ("args", msgspec.msgpack.encode("neither"), "argument"),
            ("spec", b"\xc1garbage", "spec"),
        ],
    )
    def test_garbage_in_a_job_fails_it_with_a_clear_error(
        self, make: Make, redis_url: str, namespace: str, field: str, value: bytes, says: str
    ) -> None:
        scheduler, worker = make(roles={"scheduler"}), make(handlers=[jobs.note])
        scheduler.start()
        heard = Heard()
        scheduler.add_listener(Event.JOB_SCHEDULED, heard)
        scheduler.add_task("a", jobs.note, run_once=True)
        job = heard.wait_for(Event.JOB_SCHEDULED)[0].payload[1]
        with redis.Redis.from_url(redis_url) as client:
            key = Keys(namespace).key(f"job:{job.id}")
            assert client.hset(key, field, value) == 0
        worker.start()
        ended = worker.wait_for_job(job.id, LIMIT_S)
        assert ended.status == "failed"
        assert says in (ended.error_message or "").lower()
        after = worker.add_task("after", jobs.note, run_once=True)
        assert worker.wait_for_task(after, LIMIT_S).status == "completed"
