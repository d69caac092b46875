"""The reference's FastAPI application as users run it: several processes, each with browsers.

Its interval is a minute, so the first test brings its job forward, and the second runs the same
module with the interval of its one task replaced.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import itertools
import json
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import websockets

from quiv_dist import AsyncQuiv, Event, Job, Task
from tests.servers import free_port
from tests.workers.processes import Processes

pytestmark = pytest.mark.acceptance

# The digest of the FastAPI example in quiv's documentation of event listeners.
OF_THE_REFERENCE = "7be2afa79f1b7c26dc091003122f2db22b933daa887f42afb599c34d5248a4fc"

ELSEWHERE = """
from quiv_dist import Quiv

quiv = Quiv()


@quiv.handler()
def elsewhere(number):
    if number % 5 == 0:
        raise ValueError(f"{number} is divisible by five")
"""

INTERVAL_S = 1.0
TICKING = f"""
from workers import fastapi_app as example

add_task = example.scheduler.add_task


def every_second(name, func, *, interval):
    assert interval == 60
    return add_task(name, func, interval={INTERVAL_S})


example.scheduler.add_task = every_second
app = example.app
"""


class Web:
    """A uvicorn process, and what a browser at its WebSocket hears."""

    def __init__(self, fleet: Processes, app: str) -> None:
        self._fleet = fleet
        self.port = free_port()
        self.process = fleet.start(
            "-m", "uvicorn", app, "--port", str(self.port), "--log-level", "warning"
        )
        self.heard: Counter[tuple[str, str]] = Counter()

    async def connect(self) -> websockets.ClientConnection:
        """Return a connection, which is accepted once the application has started."""
        async with asyncio.timeout(20):
            while True:
                assert self.process.poll() is None, self._fleet.written(self.process)
                try:
                    return await websockets.connect(f"ws://127.0.0.1:{self.port}/ws/events")
                except OSError:
                    await asyncio.sleep(0.05)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        connection = await self.connect()

        async def listen() -> None:
            async for message in connection:
                found = json.loads(message)
                self.heard[found["event"], found["job_id"]] += 1

        listener = asyncio.create_task(listen())
        try:
            yield
        finally:
            await connection.close()
            await listener


async def until(condition: Any, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - some conditions are other processes'
            await asyncio.sleep(0.02)


async def test_every_browser_hears_every_job_once_wherever_it_ran(
    fleet: Processes, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fleet.directory / "elsewhere_app.py").write_text(ELSEWHERE)
    webs = [Web(fleet, "workers.fastapi_app:app") for _ in range(2)]
    fleet.start("-m", "quiv_dist.cli.worker", "elsewhere_app")

    monkeypatch.setenv("QUIV_REDIS_URL", redis_url)
    monkeypatch.setenv("QUIV_NAMESPACE", namespace)
    other = _imported(fleet.directory / "elsewhere_app.py")
    quiv: AsyncQuiv = other.quiv.asynchronous
    nodes: dict[str, set[str | None]] = defaultdict(set)
    outcomes: set[tuple[str, str]] = set()
    completed: list[str] = []

    def outcome(event: Event, _task: Task, job: Job) -> None:
        nodes[job.task_name].add(job.node_id)
        outcomes.add((event.value, job.id))
        if event is Event.JOB_COMPLETED:
            completed.append(job.task_name)

    async with webs[0].listening(), webs[1].listening():
        try:
            task = await _settled_task(quiv)
            for event in (Event.JOB_STARTED, Event.JOB_COMPLETED, Event.JOB_FAILED):
                await quiv.add_listener(event, outcome)
            for number in range(1, 4):
                await quiv.run_task_immediately(task.id)
                await until(lambda number=number: len(completed) == number)
            runs = await other.elsewhere.submit_many_async([(n,) for n in range(1, 21)])
            await asyncio.gather(*runs, return_exceptions=True)
            # Events come in order, so whoever has heard the last one has heard the others.
            last = await other.elsewhere.submit_async(1)
            await last

            def arrived() -> bool:
                marks = {("job_completed", last.job_id)}
                return all(marks <= web.heard.keys() for web in webs) and marks <= outcomes

            await until(arrived)
        finally:
            await quiv.shutdown(5)

    kinds = Counter(event for event, _ in outcomes)
    assert kinds == {"job_started": 24, "job_completed": 20, "job_failed": 4}
    for web in webs:
        heard = {key: count for key, count in web.heard.items() if key in outcomes}
        assert heard == dict.fromkeys(outcomes, 1)
    assert nodes["my-task"].isdisjoint(nodes["elsewhere_app:elsewhere"])


async def _settled_task(quiv: AsyncQuiv) -> Task:
    """Return the application's one task, once its first run has ended."""
    async with asyncio.timeout(20):
        while True:
            (task,) = await quiv.get_all_tasks()
            assert (task.task_name, task.interval_seconds) == ("my-task", 60)
            if task.status == "active":
                return task
            await asyncio.sleep(0.02)


async def test_restarts_one_after_the_other_cost_no_tick_and_add_no_task(
    fleet: Processes, redis_url: str, namespace: str
) -> None:
    (fleet.directory / "ticking_app.py").write_text(TICKING)
    jobs: dict[int, set[str]] = defaultdict(set)
    ended: Counter[str] = Counter()

    def scheduled(_event: Event, _task: Task, job: Job) -> None:
        assert job.scheduled_for is not None
        jobs[round(job.scheduled_for.timestamp() * 1000)].add(job.id)

    def completed(_event: Event, _task: Task, job: Job) -> None:
        ended[job.id] += 1

    quiv = AsyncQuiv(redis_url=redis_url, namespace=namespace, roles={"listener"})
    try:
        await quiv.add_listener(Event.JOB_SCHEDULED, scheduled)
        await quiv.add_listener(Event.JOB_COMPLETED, completed)
        webs = [Web(fleet, "ticking_app:app") for _ in range(3)]
        for web in webs:
            await (await web.connect()).close()
        for web in list(webs):
            ticks = len(jobs)
            web.process.terminate()
            # uvicorn ends by the signal it was sent, after a graceful shutdown.
            await asyncio.to_thread(web.process.wait, 20)
            assert "Traceback" not in fleet.written(web.process)
            webs.append(Web(fleet, "ticking_app:app"))
            await (await webs[-1].connect()).close()
            await until(lambda before=ticks: len(jobs) >= before + 2)

        tasks = await quiv.get_all_tasks()
        assert [task.task_name for task in tasks] == ["my-task"]
        await quiv.pause_task(tasks[0].id)
        await until(lambda: sum(map(len, jobs.values())) == len(ended))
    finally:
        await quiv.shutdown(5)
    assert {len(found) for found in jobs.values()} == {1}
    assert set(ended.values()) == {1}
    nominals = sorted(jobs)
    steps = {later - earlier for earlier, later in itertools.pairwise(nominals)}
    assert steps == {round(INTERVAL_S * 1000)}, nominals


def _imported(path: Path) -> ModuleType:
    """Import a module by its name, as the worker does, so that its handlers are named alike."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def test_the_application_is_quivs_own_example_but_for_the_import() -> None:
    import workers.fastapi_app

    text = Path(workers.fastapi_app.__file__).read_text("utf-8").replace("quiv_dist", "quiv")
    assert hashlib.sha256(text.encode()).hexdigest() == OF_THE_REFERENCE
