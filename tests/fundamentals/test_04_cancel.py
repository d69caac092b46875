"""Chapter 4. A running job is asked to stop: its handler looks at its stop event."""

from __future__ import annotations

import threading

from quiv_dist import Quiv

began = threading.Event()


def patient(stop_event: threading.Event) -> None:
    began.set()
    stop_event.wait(timeout=20)


def test_cancelling_a_job(quiv: Quiv) -> None:
    quiv.start()
    task_id = quiv.add_task("patient", patient, run_once=True)
    assert began.wait(timeout=20)
    (job,) = quiv.get_all_jobs(task_id=task_id, status="running")
    assert quiv.cancel_job(job.id)
    assert quiv.wait_for_job(job.id, timeout=20).status == "cancelled"


def test_a_timeout_asks_the_same_way(quiv: Quiv) -> None:
    quiv.start()
    task_id = quiv.add_task("patient", patient, run_once=True, timeout=0.05)
    job = quiv.wait_for_task(task_id, timeout=20)
    assert job.status == "cancelled"
    assert job.error_message == "Job exceeded timeout of 0.05s"
