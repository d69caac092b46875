"""`quiv-worker` as a process: what it serves, how it drains, how it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from quiv_dist import Quiv
from tests.cli import shop
from tests.cli.conftest import Start
from tests.cli.processes import ROOT, CommandProcess
from tests.conftest import OwnServer

APP = ("tests.cli.shop", "--app-dir", str(ROOT))


@pytest.fixture
def worker(start: Start, redis_url: str, namespace: str) -> CommandProcess:
    """A worker that runs."""
    process = start("quiv-worker", *APP, "-u", redis_url, "-n", namespace)
    process.line(r"worker .* runs: namespace")
    return process


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_it_names_the_handlers_and_queues_it_serves(
    start: Start, redis_url: str, namespace: str
) -> None:
    worker = start(
        "quiv-worker", *APP, "-u", redis_url, "-n", namespace,
        QUIV_QUEUES="reports, default", QUIV_CONCURRENCY="7", QUIV_THREADS="3",
    )  # fmt: skip
    worker.line("queues reports, default with 7 coroutines and 3 threads .* 5 handlers")
    for name in ("chain", "hold", "nightly", "note", "wait_for_stop"):
        worker.line(rf"tests\.cli\.shop:{name}$")
    assert worker.stop() == 0


def test_a_flag_goes_before_its_variable(start: Start, redis_url: str, namespace: str) -> None:
    worker = start(
        "quiv-worker", *APP, "-u", redis_url, "-n", namespace, "-Q", "reports",
        QUIV_QUEUES="other", QUIV_REDIS_URL="redis://127.0.0.1:1/0", QUIV_NAMESPACE="elsewhere",
    )  # fmt: skip
    worker.line("serves queues reports with")
    worker.line(f"runs: namespace {namespace} on {redis_url}")
    assert worker.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_a_running_job_finish(
    worker: CommandProcess, client: Quiv, fifo: Path, number: signal.Signals
) -> None:
    run = client.handler()(shop.hold).submit(str(fifo))
    worker.line("hold.* started")
    worker.send(number)
    worker.line(f"{number.name}: ending")
    fifo.write_text("done")
    assert worker.ended() == 0
    assert client.get_job(run.job_id).status == "completed"


def test_a_job_that_heeds_the_stop_is_handed_back(worker: CommandProcess, client: Quiv) -> None:
    run = client.handler()(shop.wait_for_stop).submit()
    worker.line("wait_for_stop.* started")
    assert worker.stop() == 0
    job = client.get_job(run.job_id)
    assert (job.status, job.attempt, job.crashes) == ("scheduled", 1, 0)


def test_a_job_that_outlasts_the_shutdown_timeout_is_handed_back(
    start: Start, client: Quiv, fifo: Path, redis_url: str, namespace: str
) -> None:
    worker = start(
        "quiv-worker", *APP, "-u", redis_url, "-n", namespace, "--shutdown-timeout", "0.2"
    )
    run = client.handler()(shop.hold).submit(str(fifo))
    worker.line("hold.* started")
    assert worker.stop() == 0
    assert client.get_job(run.job_id).status == "scheduled"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(
    worker: CommandProcess, client: Quiv, fifo: Path, number: signal.Signals
) -> None:
    client.handler()(shop.hold).submit(str(fifo))
    worker.line("hold.* started")
    worker.send(signal.SIGTERM)
    worker.line("SIGTERM: ending")
    worker.send(number)
    assert worker.ended() == 128 + number
    worker.line(rf"a second signal \({number.name}\)")


def test_a_burst_ends_when_the_queue_is_empty(
    start: Start, client: Quiv, tmp_path: Path, redis_url: str, namespace: str
) -> None:
    ledger = tmp_path / "ledger"
    calls = [(str(ledger), str(number)) for number in range(300)]
    client.handler()(shop.note).submit_many(calls)
    worker = start("quiv-worker", *APP, "-u", redis_url, "-n", namespace, "--burst")
    assert worker.ended() == 0, worker.text
    assert sorted(map(int, ledger.read_text().split())) == list(range(300))
    assert not client.get_all_jobs(status="running")


def test_a_burst_includes_what_its_jobs_enqueue(
    start: Start, client: Quiv, tmp_path: Path, redis_url: str, namespace: str
) -> None:
    ledger = tmp_path / "ledger"
    client.handler()(shop.chain).submit(str(ledger), 30)
    worker = start("quiv-worker", *APP, "-u", redis_url, "-n", namespace, "--burst")
    assert worker.ended() == 0, worker.text
    assert ledger.read_text().split() == [str(left) for left in range(30, -1, -1)]


def test_a_burst_of_nothing_ends(start: Start, redis_url: str, namespace: str) -> None:
    worker = start("quiv-worker", *APP, "-u", redis_url, "-n", namespace, "--burst")
    assert worker.ended() == 0, worker.text
    assert "the queues are empty" in worker.text


def test_a_server_that_goes_away_later_is_waited_for(
    start: Start, own_server: OwnServer, tmp_path: Path
) -> None:
    server = own_server()
    worker = start("quiv-worker", *APP, "-u", server.url)
    worker.line(r"worker .* runs")
    server.kill()
    worker.line("WARNING.*retrying")
    server.start()
    worker.line("Redis answers again")
    client = Quiv(redis_url=server.url, roles={"listener"})
    run = client.handler()(shop.note).submit(str(tmp_path / "ledger"), "after")
    worker.line(f"{run.job_id}.*completed")
    client.shutdown(0)
    assert worker.stop() == 0


def test_what_the_application_does_while_imported_goes_to_the_server_of_the_flags(
    start: Start, client: Quiv, tmp_path: Path, redis_url: str, namespace: str
) -> None:
    (tmp_path / "adding.py").write_text(
        "from quiv_dist import Quiv\n"
        "quiv = Quiv()\n"
        "def sweep(): ...\n"
        "quiv.add_task('sweep', sweep, interval=3600, delay=3600)\n"
    )
    worker = start("quiv-worker", "adding", "-u", redis_url, "-n", namespace, cwd=tmp_path)
    worker.line("adding:sweep$")
    worker.line(r"worker .* runs")
    assert [task.task_name for task in client.get_all_tasks()] == ["sweep"]
    assert worker.stop() == 0


def test_it_leaves_declared_tasks_to_the_scheduler(worker: CommandProcess, client: Quiv) -> None:
    assert client.get_all_tasks() == []
    assert worker.stop() == 0
