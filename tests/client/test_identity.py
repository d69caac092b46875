"""Which add_task means which task: replicas, restarts, and ids of one's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quiv_dist import ConfigurationError, Event, Quiv
from tests.client import jobs
from tests.client.conftest import Make
from tests.client.faces import LIMIT_S, Heard


def ids_of(quiv: Quiv) -> list[str]:
    return sorted(task.id for task in quiv.get_all_tasks())


class TestBeforeTheStart:
    """What is added before the start is the application's own schedule."""

    def test_replicas_mean_the_same_task(self, make_face: Make) -> None:
        first, second = make_face(), make_face()
        one = first.add_task("report", jobs.note, interval=60, delay=60)
        assert second.add_task("report", jobs.note, interval=60, delay=60) == one
        assert [task.id for task in first.get_all_tasks()] == [one]

    def test_two_adds_are_two_tasks_in_every_replica_the_same_two(self, make: Make) -> None:
        added = []
        for _ in range(3):
            quiv = make()
            added.append(
                [quiv.add_task("report", jobs.note, interval=60, args=(x,)) for x in (1, 2)]
            )
        assert added[0] == added[1] == added[2]
        assert len(set(added[0])) == 2
        assert ids_of(make()) == sorted(added[0])

    def test_other_names_handlers_and_namespaces_are_other_tasks(
        self, make: Make, namespace: str
    ) -> None:
        quiv = make()
        ids = {
            quiv.add_task("a", jobs.note, interval=60),
            quiv.add_task("b", jobs.note, interval=60),
            quiv.add_task("a", jobs.nothing, interval=60),
            make(namespace=f"{namespace}-2").add_task("a", jobs.note, interval=60),
        }
        assert len(ids) == 4

    def test_a_changed_interval_updates_in_place(self, make: Make) -> None:
        first, second = make(), make()
        task_id = first.add_task("report", jobs.note, interval=60, delay=60)
        before = first.get_task(task_id)
        assert second.add_task("report", jobs.note, interval=30, delay=30) == task_id
        after = second.get_task(task_id)
        assert after.interval_seconds == 30
        assert after.incarnation == before.incarnation
        assert before.next_run_at - after.next_run_at > timedelta(seconds=25)

    def test_changed_arguments_and_policies_keep_the_due_time(self, make: Make) -> None:
        first, second = make(), make()
        task_id = first.add_task("report", jobs.note, interval=60, delay=60, args=(1,))
        before = first.get_task(task_id)
        second.add_task("report", jobs.note, interval=60, args=(2,), max_retries=3)
        after = second.get_task(task_id)
        assert (after.args, after.max_retries) == ((2,), 3)
        assert after.next_run_at == before.next_run_at

    def test_the_same_definition_again_changes_nothing(self, make: Make) -> None:
        first, second = make(), make()
        task_id = first.add_task("report", jobs.note, interval=60, delay=60)
        before = first.get_task(task_id)
        second.add_task("report", jobs.note, interval=60, delay=5)
        assert second.get_task(task_id) == before

    def test_a_refused_add_does_not_shift_the_next(self, make: Make) -> None:
        first, second = make(), make()
        task_id = first.add_task("report", jobs.note, interval=60)
        with pytest.raises(ConfigurationError):
            second.add_task("report", jobs.note, interval=60, delay=-1)
        with pytest.raises(ConfigurationError):
            second.add_task("report", jobs.note, interval=60, if_exists="perhaps")
        assert second.add_task("report", jobs.note, interval=60) == task_id

    def test_run_once_and_pinned_tasks_are_new_each_time(self, make: Make) -> None:
        quiv = make()
        once = [quiv.add_task("x", jobs.note, run_once=True, delay=60) for _ in range(2)]
        pinned = [quiv.add_task("x", lambda: None, interval=60, delay=60) for _ in range(2)]
        assert len({*once, *pinned}) == 4


def test_after_the_start_each_add_is_a_new_task(face: Any) -> None:
    ids = {face.add_task("report", jobs.note, interval=60, delay=60) for _ in range(3)}
    assert len(ids) == 3


class TestIdsOfOnesOwn:
    """task_id= is an idempotent upsert."""

    def test_replace_updates_in_place(self, face: Any) -> None:
        heard = Heard()
        face.add_listener(Event.TASK_ADDED, heard)
        face.add_listener(Event.TASK_UPDATED, heard)
        assert face.add_task("a", jobs.note, interval=60, delay=60, task_id="mine") == "mine"
        assert face.add_task("b", jobs.nothing, interval=90, delay=60, task_id="mine") == "mine"
        heard.wait_for(Event.TASK_ADDED, Event.TASK_UPDATED)
        assert heard.kinds == [Event.TASK_ADDED, Event.TASK_UPDATED]
        (task,) = face.get_all_tasks()
        assert (task.id, task.task_name, task.interval_seconds) == ("mine", "b", 90)
        assert task.handler == "tests.client.jobs:nothing"

    def test_keep_leaves_what_is_there(self, face: Any) -> None:
        face.add_task("a", jobs.note, interval=60, delay=60, task_id="mine", args=(1,))
        before = face.get_task("mine")
        heard = Heard()
        face.add_listener(Event.TASK_ADDED, heard)
        face.add_task("b", jobs.note, interval=9, task_id="mine", if_exists="keep", args=(2,))
        assert face.get_task("mine") == before
        # Nothing changed, but this process's own listeners hear of the call, as in quiv.
        (call,) = heard.wait_for(Event.TASK_ADDED)
        assert call.payload == (before,)

    def test_error_refuses_naming_the_id(self, face: Any) -> None:
        face.add_task("a", jobs.note, interval=60, delay=60, task_id="mine", if_exists="error")
        before = face.get_task("mine")
        with pytest.raises(ConfigurationError, match="task_id='mine' is taken"):
            face.add_task("b", jobs.note, interval=9, task_id="mine", if_exists="error")
        assert face.get_task("mine") == before

    def test_an_upsert_never_unpauses(self, face: Any) -> None:
        face.add_task("a", jobs.note, interval=60, delay=60, task_id="mine")
        face.pause_task("mine", reason="broken")
        face.add_task("a", jobs.note, interval=0.05, task_id="mine")
        task = face.get_task("mine")
        assert (task.status, task.pause_reason, task.interval_seconds) == (
            "paused", "broken", 0.05,
        )  # fmt: skip
        assert face.get_all_jobs(task_id="mine") == []

    def test_an_upsert_never_creates_a_past_tick(self, quiv: Quiv) -> None:
        quiv.add_task("a", jobs.note, interval=0.2, task_id="mine")
        first = quiv.wait_for_task("mine", LIMIT_S)
        quiv.add_task("a", jobs.note, interval=0.3, task_id="mine")
        second = quiv.wait_for_task("mine", LIMIT_S)
        third = quiv.wait_for_task("mine", LIMIT_S)
        assert first.scheduled_for is not None
        assert second.scheduled_for is not None
        assert third.scheduled_for is not None
        assert first.scheduled_for < second.scheduled_for < third.scheduled_for
        nominal = [job.scheduled_for for job in quiv.get_all_jobs(task_id="mine")]
        assert len(nominal) == len(set(nominal))

    def test_the_same_trigger_keeps_its_due_time(self, face: Any) -> None:
        face.add_task("a", jobs.note, cron="0 3 * * *", task_id="mine")
        before = face.get_task("mine")
        face.add_task("renamed", jobs.note, cron="0  3 * * *", task_id="mine")
        after = face.get_task("mine")
        assert (after.task_name, after.next_run_at) == ("renamed", before.next_run_at)
        face.add_task("renamed", jobs.note, cron="0 4 * * *", task_id="mine")
        assert face.get_task("mine").next_run_at.hour == 4

    def test_an_alarm_given_another_time_moves(self, face: Any) -> None:
        def add(**when: Any) -> datetime:
            face.add_task("a", jobs.note, run_once=True, task_id="mine", **when)
            found: datetime = face.get_task("mine").next_run_at
            return found

        first, second = (datetime(2999, 1, day, tzinfo=UTC) for day in (1, 2))
        assert add(run_at=first) == first
        assert add(run_at=second) == second
        assert add(run_at=second) == second
        # A time counted from now, or one already past, is not another time.
        assert add(delay=60) == second
        assert add(run_at=datetime(1999, 1, 1, tzinfo=UTC)) == second
        face.pause_task("mine")
        assert add(run_at=first) == first
        assert face.get_task("mine").status == "paused"

    @pytest.mark.parametrize("before_start", [True, False])
    def test_an_alarm_that_rang_does_not_ring_again_at_a_restart(
        self, make: Make, before_start: bool
    ) -> None:
        def add(quiv: Quiv) -> str:
            return quiv.add_task(
                "alarm", jobs.note, run_once=True, task_id="mine",
                run_at=datetime(2001, 1, 1, tzinfo=UTC),
            )  # fmt: skip

        first = make()
        heard = Heard()
        first.add_listener(Event.TASK_ENDED, heard)
        first.start()
        add(first)
        heard.wait_for(Event.TASK_ENDED)
        rang = first.wait_for_task("mine", LIMIT_S)
        first.shutdown()

        second = make()
        if before_start:
            assert add(second) == "mine"
        second.start()
        if not before_start:
            assert add(second) == "mine"
        assert second.get_all_tasks(include_run_once=True) == []
        assert second.wait_for_task("mine", LIMIT_S) == rang
        # Given a time that is still to come, it is a new alarm.
        later = datetime(2999, 1, 1, tzinfo=UTC)
        second.add_task("alarm", jobs.note, run_once=True, task_id="mine", run_at=later)
        assert second.get_task("mine").next_run_at == later


class TestDeclared:
    """@quiv.task: stored by the start under module:qualname."""

    def test_it_is_stored_at_the_start_under_its_name(self, make_face: Make) -> None:
        face = make_face()
        face.task(cron="0 9 * * mon-fri", cron_timezone="Europe/Paris")(jobs.nothing)
        assert face.get_all_tasks() == []
        face.start()
        task = face.get_task("tests.client.jobs:nothing")
        assert (task.task_name, task.cron_timezone) == ("nothing", "Europe/Paris")
        assert task.owner == "tests.client.jobs"

    def test_an_id_and_a_name_of_its_own(self, make_face: Make) -> None:
        face = make_face()
        face.task(interval=60, task_id="daily", task_name="Daily", args=(1,))(jobs.note)
        face.start()
        assert (face.get_task("daily").task_name, face.get_task("daily").args) == ("Daily", (1,))

    def test_replicas_and_restarts_store_one(self, make: Make) -> None:
        for _ in range(2):
            quiv = make()
            quiv.task(interval=60, delay=60)(jobs.nothing)
            quiv.start()
        assert ids_of(make()) == ["tests.client.jobs:nothing"]

    def test_it_runs(self, make_face: Make) -> None:
        face = make_face()
        face.task(interval=60, args=(1,))(jobs.note)
        heard = Heard()
        face.add_listener(Event.JOB_COMPLETED, heard)
        face.start()
        heard.wait_for(Event.JOB_COMPLETED)
        assert jobs.calls == [((1,), {})]
