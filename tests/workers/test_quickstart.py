"""The quickstart, run twice at once: a schedule is not multiplied by its processes."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from quiv_dist import Quiv
from tests.workers.processes import Processes

pytestmark = pytest.mark.acceptance
SUBMITTED = "logo.png is 64 pixels wide"


def test_two_processes_share_one_schedule(fleet: Processes, redis_url: str, namespace: str) -> None:
    running = [fleet.start("-m", "workers.quickstart") for _ in range(2)]

    def lines() -> Counter[str]:
        return Counter(line for process in running for line in fleet.written(process).splitlines())

    fleet.wait_for("both submissions", lambda: lines()[SUBMITTED] == 2)
    fleet.wait_for("three heartbeats", lambda: lines()["still here"] >= 3)
    for process in running:
        process.send_signal(signal.SIGINT)
    assert [process.wait(20) for process in running] == [0, 0]

    quiv = Quiv(redis_url=redis_url, namespace=namespace, roles={"listener"})
    try:
        tasks = {task.task_name: task for task in quiv.get_all_tasks()}
        assert set(tasks) == {"heartbeat", "report"}
        ticks = quiv.get_all_jobs(task_id=tasks["heartbeat"].id, status="completed")
        assert len(ticks) == lines()["still here"]
        assert len({job.scheduled_for for job in ticks}) == len(ticks)
    finally:
        quiv.shutdown()
