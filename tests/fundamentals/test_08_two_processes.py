"""Chapter 8. Processes share a schedule: each tick runs once, whoever runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from quiv_dist import Quiv

ROOT = Path(__file__).parents[2]

# What a replica of the application does: declare its schedule, start, run its share.
REPLICA = """
import sys
from quiv_dist import Quiv
from tests.fundamentals.work import tick

url, namespace = sys.argv[1:]
quiv = Quiv(redis_url=url, namespace=namespace)
quiv.add_task("tick", tick, interval=0.05)
quiv.start()
print("started", flush=True)
sys.stdin.read()
quiv.shutdown(timeout=5)
"""


def test_two_processes_share_a_schedule(quiv: Quiv, redis_url: str, namespace: str) -> None:
    command = [sys.executable, "-c", REPLICA, redis_url, namespace]
    replicas = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for replica in replicas:
            assert replica.stdout is not None
            assert replica.stdout.readline() == "started\n"

        # Both added it before their start, so it is one task, and this process sees it too.
        (task,) = quiv.get_all_tasks()
        assert task.task_name == "tick"
        for _ in range(10):
            quiv.wait_for_task(task.id, timeout=20)
    finally:
        for replica in replicas:
            replica.communicate("")
    assert [replica.returncode for replica in replicas] == [0, 0]

    # Every tick became exactly one job.
    ticks = [job.scheduled_for for job in quiv.get_all_jobs(task_id=task.id)]
    assert len(ticks) >= 10
    assert len(set(ticks)) == len(ticks)
