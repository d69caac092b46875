"""Why a stop event is set, and how each end is recorded."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from quiv_dist import Event, StopReason
from quiv_dist.config import Settings
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard, eventually
from tests.conftest import OwnServer


def start(face: Any, func: Any, name: str, **options: Any) -> Any:
    task_id = face.add_task("stopped", func, run_once=True, kwargs={"name": name}, **options)
    assert jobs.has_started(name)
    (job,) = face.get_all_jobs(task_id=task_id)
    return job


@pytest.mark.parametrize("func", [jobs.polite, jobs.raising, jobs.polite_async])
def test_cancel(face: Any, func: Any) -> None:
    job = start(face, func, "s")
    face.cancel_job(job.id)
    ended = face.wait_for_job(job.id, LIMIT_S)
    assert (ended.status, ended.error_message) == ("cancelled", None)
    assert jobs.reasons["s"] is StopReason.CANCEL


@pytest.mark.parametrize("func", [jobs.polite, jobs.raising, jobs.polite_async])
def test_timeout(face: Any, func: Any) -> None:
    job = start(face, func, "s", timeout=0.1)
    ended = face.wait_for_job(job.id, LIMIT_S)
    assert (ended.status, ended.error_message) == ("cancelled", "Job exceeded timeout of 0.1s")
    assert jobs.reasons["s"] is StopReason.TIMEOUT


@pytest.mark.parametrize("func", [jobs.polite, jobs.raising, jobs.polite_async])
def test_a_shutdown_hands_back_what_noticed_it(make: Make, func: Any) -> None:
    first, second = make(), make(handlers=[func])
    first.start()
    job = start(first, func, "s")
    first.shutdown()
    assert jobs.reasons["s"] is StopReason.SHUTDOWN
    back = second.get_job(job.id)
    assert (back.status, back.attempt, back.crashes) == ("scheduled", 1, 0)
    second.start()
    assert jobs.has_started("s")
    again = second.get_job(job.id)
    assert (again.status, again.attempt, again.delivery, again.crashes) == ("running", 1, 2, 0)
    second.cancel_job(job.id)
    assert second.wait_for_job(job.id, LIMIT_S).status == "cancelled"


def test_a_shutdown_completes_what_did_not_look(make: Make) -> None:
    first, second = make(), make()
    first.start()
    job = start(first, jobs.held, "s")
    shutting = threading.Thread(target=first.shutdown)
    shutting.start()
    eventually(lambda: not first.is_running, "the shutdown")
    jobs.open_gate("s")
    shutting.join(LIMIT_S)
    assert second.get_job(job.id).status == "completed"


def test_what_outlasts_the_grace_is_handed_back_and_its_late_end_refused(make: Make) -> None:
    first, second = make(), make()
    first.start()
    job = start(first, jobs.held, "s")
    first.shutdown(timeout=0.1)
    assert second.get_job(job.id).status == "scheduled"
    jobs.open_gate("s")
    assert second.get_job(job.id).status == "scheduled"
    assert second.cancel_job(job.id) is True


def test_a_shutdown_cancels_pinned_jobs(make: Make) -> None:
    quiv, other = make(), make()
    quiv.start()
    seen: list[Any] = []

    def pinned(stop_event: Any) -> None:
        jobs._started["p"].release()
        stop_event.wait(LIMIT_S)
        seen.append(stop_event.reason)

    task_id = quiv.add_task("pinned", pinned, run_once=True)
    assert jobs.has_started("p")
    (job,) = quiv.get_all_jobs(task_id=task_id)
    quiv.shutdown()
    assert seen == [StopReason.SHUTDOWN]
    assert other.get_job(job.id).status == "cancelled"


def test_a_lost_lease(make: Make, own_server: OwnServer) -> None:
    server = own_server()
    quiv = make(redis_url=server.url)
    quiv.asynchronous.configure(
        settings=Settings(
            command_timeout_s=0.3, node_lease_ms=500, job_lease_ms=500, heartbeat_s=0.1,
            urgent_heartbeat_s=0.1,
        )
    )  # fmt: skip
    quiv.start()
    job = start(quiv, jobs.polite, "s")
    heard = Heard()
    quiv.add_listener(Event.JOB_STARTED, heard)
    server.pause()
    try:
        eventually(lambda: "s" in jobs.reasons, "the stop")
    finally:
        server.resume()
    assert jobs.reasons["s"] is StopReason.LEASE_LOST
    # The work goes on: it was handed back or taken back, and is delivered again.
    (call,) = heard.wait_for(Event.JOB_STARTED)
    assert (call.payload[1].id, call.payload[1].delivery) == (job.id, 2)
