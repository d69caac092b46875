"""Looking at a namespace and acting on it: `quiv tasks`, `quiv jobs`, `quiv nodes`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from quiv_dist import Quiv
from quiv_dist.cli import main
from quiv_dist.cli.output import cell, span
from tests.cli import shop
from tests.cli.conftest import Ask, Start


def _done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def _objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _done(result).splitlines()]


@pytest.fixture
def mail(client: Quiv) -> str:
    """A task due in an hour."""
    return client.add_task(
        "mail", shop.note, interval=60, delay=3600, args=("/tmp/a", "b"), task_id="mail"
    )


@pytest.fixture
def queued(client: Quiv, mail: str) -> str:
    """A job that waits: nobody works in this namespace."""
    client.run_task_immediately(mail)
    return client.handler()(shop.note).submit("/tmp/a", "b").job_id


# Tasks --------------------------------------------------------------------------------------------


def test_tasks_are_listed_in_aligned_columns(ask: Ask, mail: str) -> None:
    header, row = _done(ask("tasks", "list")).splitlines()
    assert header.split() == ["ID", "NAME", "STATUS", "SCHEDULE", "NEXT", "RUN", "QUEUE", "HANDLER"]
    for title, value in {
        "NAME": "mail", "STATUS": "active", "SCHEDULE": "every 1m", "HANDLER": "tests.cli.shop:note"
    }.items():  # fmt: skip
        assert row[header.index(title) :].startswith(value)
    assert "(in 59m" in row or "(in 1h" in row


def test_no_tasks_is_said_beside_the_output(ask: Ask) -> None:
    result = ask("tasks", "list")
    assert _done(result) == ""
    assert "no tasks" in result.stderr


def test_tasks_as_json_are_one_object_a_line(ask: Ask, client: Quiv, mail: str) -> None:
    client.add_task("other", shop.note, interval=5, args=("/tmp/a", "b"), task_id="other")
    found = {task["id"]: task for task in _objects(ask("tasks", "list", "--json"))}
    assert found.keys() == {"mail", "other"}
    assert found["mail"]["interval_seconds"] == 60
    assert found["mail"]["args"] == ["/tmp/a", "b"]


def test_tasks_that_run_once_are_listed_on_demand(ask: Ask, client: Quiv) -> None:
    client.add_task("once", shop.note, run_once=True, delay=3600, args=("/tmp/a", "b"))
    assert _objects(ask("tasks", "list", "--json")) == []
    assert [task["task_name"] for task in _objects(ask("tasks", "list", "--json", "--all"))] == [
        "once"
    ]


def test_a_task_is_shown_with_its_jobs(ask: Ask, mail: str, queued: str) -> None:
    text = _done(ask("tasks", "show", mail))
    assert "schedule" in text
    assert '["/tmp/a","b"]' in text
    assert "NEWEST JOBS" not in text  # a run-now needs a leader to become a job
    fields = _objects(ask("tasks", "show", mail, "--json"))[0]
    assert fields["task_name"] == "mail"
    assert fields["jobs"] == []
    assert fields["ticks"] == []


def test_pausing_and_resuming(ask: Ask, client: Quiv, mail: str) -> None:
    _done(ask("tasks", "pause", mail, "--reason", "the mail server is down"))
    assert client.get_task(mail).status == "paused"
    assert "the mail server is down" in _done(ask("tasks", "show", mail))
    _done(ask("tasks", "resume", mail, "--delay", "120"))
    assert client.get_task(mail).status == "active"


def test_running_a_paused_task_is_refused(ask: Ask, client: Quiv, mail: str) -> None:
    client.pause_task(mail)
    result = ask("tasks", "run", mail)
    assert result.exit_code == 1
    assert result.stderr == "error: task 'mail' is paused; resume_task() first\n"


def test_removing(ask: Ask, client: Quiv, mail: str) -> None:
    assert _done(ask("tasks", "remove", mail)) == "task mail was removed\n"
    assert client.get_all_tasks() == []


@pytest.mark.parametrize("command", ["show", "pause", "resume", "run", "remove"])
def test_an_unknown_task_is_2(ask: Ask, command: str) -> None:
    result = ask("tasks", command, "nothing")
    assert result.exit_code == 2
    assert result.stderr == "error: task 'nothing' was not found\n"


# Jobs ---------------------------------------------------------------------------------------------


def test_jobs_are_listed(ask: Ask, queued: str) -> None:
    header, row = _done(ask("jobs", "list")).splitlines()
    assert header.startswith("ID ")
    assert row.startswith(queued)
    assert "scheduled" in row
    assert _objects(ask("jobs", "list", "--status", "running", "--json")) == []


def test_a_job_is_shown(ask: Ask, queued: str) -> None:
    text = _done(ask("jobs", "show", queued))
    assert "tests.cli.shop:note" in text
    assert "(submit)" in text
    assert _objects(ask("jobs", "show", queued, "--json"))[0]["id"] == queued


def test_cancelling_once_is_done_and_twice_is_refused(ask: Ask, client: Quiv, queued: str) -> None:
    _done(ask("jobs", "cancel", queued))
    assert client.get_job(queued).status == "cancelled"
    result = ask("jobs", "cancel", queued)
    assert result.exit_code == 1
    assert result.stderr == f"error: job {queued} has ended already: cancelled\n"


@pytest.mark.parametrize("command", ["show", "cancel"])
def test_an_unknown_job_is_2(ask: Ask, command: str) -> None:
    result = ask("jobs", command, "00000000-0000-8000-8000-000000000000")
    assert result.exit_code == 2
    assert "was not found" in result.stderr


# Nodes --------------------------------------------------------------------------------------------


def test_no_nodes_is_said(ask: Ask) -> None:
    result = ask("nodes")
    assert _done(result) == ""
    assert "no nodes" in result.stderr


def test_nodes_mark_the_leader(ask: Ask, start: Start, redis_url: str, namespace: str) -> None:
    at = ("-u", redis_url, "-n", namespace)
    scheduler = start("quiv-scheduler", *at)
    scheduler.line("leading with epoch")
    scheduler.line("scheduler .* runs")
    worker = start("quiv-worker", "tests.cli.shop", "-Q", "mail", *at)
    worker.line("worker .* runs")
    header, first, second = _done(ask("nodes")).splitlines()
    assert first[header.index("LEADER") :].startswith("epoch ")
    assert second[header.index("ROLES") :].startswith("worker")
    assert second.endswith("mail")
    leader, other = _objects(ask("nodes", "--json"))
    assert (leader["leads"], other["leads"]) == (True, False)
    assert (leader["pid"], other["pid"]) == (scheduler.process.pid, worker.process.pid)
    assert 0 < leader["lease_left_s"] <= 15
    assert "tests.cli.shop:note" in other["handlers"]
    scheduler.stop()
    assert "nobody leads" in ask("nodes").stderr


# Which namespace ----------------------------------------------------------------------------------


def test_the_variables_name_the_namespace(
    redis_url: str, namespace: str, mail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIV_REDIS_URL", redis_url)
    monkeypatch.setenv("QUIV_NAMESPACE", namespace)
    assert "mail" in _done(CliRunner().invoke(main, ["tasks", "list"]))


def test_an_application_names_the_namespace(
    redis_url: str, namespace: str, mail: str, tmp_path: Path, start: Start
) -> None:
    (tmp_path / "named.py").write_text(
        "from quiv_dist import Quiv\n"
        f"quiv = Quiv(redis_url={redis_url!r}, namespace={namespace!r})\n"
    )
    process = start("quiv", "tasks", "list", "--app", "named", cwd=tmp_path)
    assert process.ended() == 0, process.text
    process.line("^mail ")


def test_without_a_server_it_is_said_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["tasks", "list"])
    assert result.exit_code == 2
    assert "set QUIV_REDIS_URL" in result.stderr
    assert list(tmp_path.iterdir()) == []


# Cells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0.4ms"), (0.25, "250ms"), (1, "1s"), (2.5, "2.5s"), (59.6, "1m"), (90, "1m 30s"),
        (3600, "1h"), (3661, "1h 1m"), (86_400 * 2 + 59, "2d"),
    ],
)  # fmt: skip
def test_durations_in_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_cell_is_one_short_line() -> None:
    assert cell("two\n  lines") == "two lines"
    assert len(cell("x" * 100)) == 60
