"""Redis away, and Redis back without its data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from quiv_dist import Event, Quiv, RedisUnavailableError
from quiv_dist.config import Settings
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard, eventually
from tests.conftest import OwnServer
from tests.servers import RedisServer

QUICK = Settings(
    command_timeout_s=0.3, connect_timeout_s=0.3, heartbeat_s=0.1, urgent_heartbeat_s=0.1,
    backoff_most_s=0.1, log_check_s=0.5,
)  # fmt: skip


@pytest.fixture
def server(own_server: OwnServer) -> Iterator[RedisServer]:
    found = own_server()
    yield found
    if found.is_running:
        found.resume()


@pytest.fixture
def quick(make_face: Make, server: RedisServer) -> Any:
    """A started instance of each face, quick to notice."""
    return _quick(make_face, server)


def _quick(make: Make, server: RedisServer, **options: Any) -> Any:
    face = make(redis_url=server.url, **options)
    (face.asynchronous if isinstance(face, Quiv) else face).configure(settings=QUICK)
    return face


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_calls_fail_after_the_command_timeout_and_work_again_later(
    quick: Any, server: RedisServer, how: str
) -> None:
    quick.start()
    task_id = quick.add_task("a", jobs.note, interval=60, delay=60)
    getattr(server, how)()
    for call in (quick.get_all_tasks, lambda: quick.get_task(task_id), quick.stats):
        started = time.monotonic()
        with pytest.raises(RedisUnavailableError, match=str(server.port)):
            call()
        assert time.monotonic() - started >= 0.2
    assert quick.is_running is True
    eventually(lambda: not quick.is_ready or how == "pause", "not being ready")
    if how == "pause":
        server.resume()
    else:
        server.start()
    eventually(lambda: quick.is_ready, "being ready again")
    again = quick.add_task("b", jobs.note, run_once=True)
    assert quick.wait_for_task(again, LIMIT_S).status == "completed"


def test_a_failed_add_made_again_is_the_same_task(make: Make, server: RedisServer) -> None:
    quick, replica = _quick(make, server), _quick(make, server)
    task_id = replica.add_task("a", jobs.note, interval=60, delay=60)
    quick.get_all_tasks()
    server.pause()
    with pytest.raises(RedisUnavailableError):
        quick.add_task("a", jobs.note, interval=60, delay=60)
    server.resume()
    assert quick.add_task("a", jobs.note, interval=60, delay=60) == task_id


def test_a_start_without_a_server_can_be_made_again(quick: Any, server: RedisServer) -> None:
    server.kill()
    with pytest.raises(RedisUnavailableError):
        quick.start()
    assert (quick.is_running, quick.is_ready) == (False, False)
    server.start()
    quick.start()
    assert (quick.is_running, quick.is_ready) == (True, True)


def test_a_shutdown_without_a_server_ends(quick: Any, server: RedisServer) -> None:
    quick.start()
    quick.add_task("a", jobs.note, interval=60, delay=60)
    server.kill()
    quick.shutdown(1.0)
    assert not quick.is_running


class TestFlushed:
    """The namespace is gone while instances run: FLUSHALL, or a restart without persistence."""

    @pytest.fixture(params=["FLUSHALL", "restart"])
    def lose(self, request: pytest.FixtureRequest, server: RedisServer) -> Any:
        def act() -> None:
            if request.param == "restart":
                server.restart(kill=True)
            else:
                with redis.Redis.from_url(server.url) as client:
                    client.flushall()

        return act

    def test_what_was_declared_and_pinned_is_put_again(
        self, make: Make, server: RedisServer, lose: Any
    ) -> None:
        quick = _quick(make, server)
        quick.task(interval=3600, delay=3600, task_id="declared")(jobs.note)
        added = quick.add_task("before the start", jobs.note, interval=3600, delay=3600)
        given = quick.add_task("own id", jobs.note, interval=3600, delay=3600, task_id="given")
        cron = quick.add_task("cron", jobs.note, cron="0 3 * * *")
        removed = quick.add_task("removed", jobs.note, interval=3600, delay=3600)
        quick.start()
        pinned = quick.add_task("pinned", lambda: None, interval=3600, delay=3600)
        after = quick.add_task("after the start", jobs.note, interval=3600, delay=3600)
        quick.update_task(added, max_retries=5)
        quick.remove_task(removed)
        before = {task.id: task for task in quick.get_all_tasks()}
        assert after in before
        lose()
        expected = {"declared", added, given, cron, pinned}
        # A peer looks, so that these calls are not what makes the instance notice.
        peer = _quick(make, server)
        eventually(
            lambda: {task.id for task in peer.get_all_tasks()} == expected, "the tasks again"
        )
        again = {task.id: task for task in peer.get_all_tasks()}
        assert again[added].max_retries == 5
        assert again[pinned].pinned_to == before[pinned].pinned_to
        # The same schedule, as new records.
        for task_id in expected:
            assert again[task_id].next_run_at == before[task_id].next_run_at
            assert again[task_id].incarnation != before[task_id].incarnation

    def test_everything_works_again(self, quick: Any, lose: Any) -> None:
        quick.start()
        quick.wait_for_task(quick.add_task("a", jobs.note, run_once=True, delay=0.05), LIMIT_S)
        heard = Heard()
        quick.add_listener(Event.JOB_COMPLETED, heard)
        lose()
        eventually(lambda: quick.is_ready, "being ready")

        def added() -> Any:
            try:
                return quick.add_task("b", jobs.note, run_once=True, delay=0.05)
            except RedisUnavailableError:
                return None

        task_id = eventually(added, "an add")
        eventually(
            lambda: [j for j in quick.get_all_jobs(task_id=task_id) if j.ended_at], "the job"
        )
        heard.wait_for(Event.JOB_COMPLETED)

    def test_a_grid_goes_on_with_no_past_tick(self, make: Make, server: RedisServer) -> None:
        quick = _quick(make, server)
        quick.add_task("beat", jobs.note, interval=0.25, task_id="beat")
        quick.start()
        first = quick.wait_for_task("beat", LIMIT_S)
        heard = Heard()
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        eventually(quick.get_all_tasks, "the task again")
        quick.add_listener(Event.JOB_COMPLETED, heard)
        job = heard.wait_for(Event.JOB_COMPLETED)[0].payload[1]
        distance_ms = (job.scheduled_for - first.scheduled_for).total_seconds() * 1000
        assert distance_ms > 0
        assert round(distance_ms) % 250 == 0
