"""What a shutdown must not lose, and what starting twice must not double."""

from __future__ import annotations

import threading
from typing import Any

from quiv_dist import Event
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard


def reports_twice_and_returns(progress_hook: Any) -> None:
    progress_hook(1)
    progress_hook(2)


def test_an_end_that_waits_for_its_last_progress_is_recorded_before_the_shutdown_ends(
    make: Make,
) -> None:
    """The second update within 0.1 s waits; the job's end waits for it, and the drain for that."""
    client, worker = make(), make(handlers=[reports_twice_and_returns])
    heard = Heard()
    client.add_listener(Event.JOB_STARTED, heard)
    worker.start()
    run = client.handler()(reports_twice_and_returns).submit()
    heard.wait_for(Event.JOB_STARTED)
    worker.shutdown()
    job = client.get_job(run.job_id)
    assert (job.status, job.delivery) == ("completed", 1)


def test_two_threads_that_start_an_instance_start_it_once(make: Make) -> None:
    quiv = make()
    heard = Heard()
    quiv.add_listener(Event.LEADER_ELECTED, heard)
    threads = [threading.Thread(target=quiv.start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    heard.wait_for(Event.LEADER_ELECTED)
    quiv.shutdown()
    left = {thread.name for thread in threading.enumerate() if thread.name.startswith("quiv-")}
    assert not left & {"quiv-io", "quiv-worker", "quiv-node"}
    assert heard.kinds == [Event.LEADER_ELECTED]
