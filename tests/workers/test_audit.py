"""The demonstration's judge: it finds each kind of broken promise, and nothing in a sound run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from quiv_dist import Event, EventGap, Job, Node, Task, Tick
from workers.demo.audit import Report, audit, due_ticks
from workers.demo.records import Entry, Heard

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATE_MS = 4


def at(ms: int) -> datetime:
    return START + timedelta(milliseconds=ms)


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


class Tape:
    """Events and ledger of a fleet; times in ms from the start."""

    def __init__(self, *, until_ms: int, interval_s: float = 1.0) -> None:
        self.heard: list[Heard] = []
        self.ledger: list[Entry] = []
        self._until_ms = until_ms
        self.task = Task(id="t", task_name="task", next_run_at=at(0), interval_seconds=interval_s)
        self.hear(Event.TASK_ADDED, task=self.task)

    def hear(self, event: Event, **payload: object) -> None:
        self.heard.append(Heard(event=event, heard_ms=0, **payload))  # type: ignore[arg-type]

    def job(
        self,
        nominal: int,
        *,
        created: int | None = None,
        job_id: str | None = None,
        task_id: str = "t",
        attempt: int = 1,
    ) -> Job:
        moment = at(nominal + LATE_MS if created is None else created)
        return Job(
            id=job_id or f"{task_id}{nominal}/{attempt}", run_id=f"run {task_id}{nominal}",
            task_id=task_id, task_name="task", created_at=moment, started_at=moment,
            scheduled_for=at(nominal), attempt=attempt,
        )  # fmt: skip

    def run(self, nominal: int, *, ended: int | None = None, job: Job | None = None) -> Job:
        """A tick that became a job, which one handler ran to its end."""
        job = job or self.job(nominal)
        self.hear(Event.JOB_SCHEDULED, task=self.task, job=job)
        self.hear(Event.JOB_STARTED, task=self.task, job=job)
        self.write("start", job)
        self.write("end", job)
        self.end(Event.JOB_COMPLETED, job, ended if ended is not None else nominal + 10)
        return job

    def end(self, event: Event, job: Job, moment: int) -> None:
        self.hear(event, task=self.task, job=job.model_copy(update={"ended_at": at(moment)}))

    def write(self, phase: str, job: Job, pid: int = 1) -> None:
        self.ledger.append(Entry(phase=phase, handler="h", job_id=job.id, at_ms=0, pid=pid))

    def skip(self, nominal: int) -> None:
        tick = Tick(task_id="t", outcome="skipped", first_at=at(nominal), last_at=at(nominal))
        self.hear(Event.TICK_SKIPPED, task=self.task, tick=tick)

    def report(self, *ends: tuple[str, int]) -> Report:
        paused = self.task.model_copy(update={"next_run_at": at(self._until_ms)})
        self.hear(Event.TASK_PAUSED, task=paused)
        return audit(self.heard, self.ledger, ends)


def test_a_sound_run() -> None:
    tape = Tape(until_ms=4000)
    for nominal in (0, 1000, 2000, 3000):
        tape.run(nominal)
    report = tape.report()
    assert report.sound
    assert (report.due, report.enqueued, report.run, report.starts) == (4, 4, 4, 4)
    assert report.lateness(50) == LATE_MS


def test_a_tick_with_no_outcome_is_lost() -> None:
    tape = Tape(until_ms=4000)
    other = tape.job(1500, task_id="other")
    for nominal in (0, 1000, 3000):
        tape.run(nominal)
    # Somebody dispatched while it was due, so it did not wait for a leader.
    tape.run(2500, job=tape.job(2500, task_id="other"))
    tape.run(1500, job=other)
    report = tape.report()
    assert report.lost == [("task", ms(at(2000)))]
    assert not report.sound


def test_the_last_tick_before_the_pause_is_due_too() -> None:
    tape = Tape(until_ms=3000)
    for nominal in (0, 1000):
        tape.run(nominal)
    assert tape.report().lost == [("task", ms(at(2000)))]


def test_a_slot_that_passed_while_nobody_led_gives_way_to_a_newer_one() -> None:
    tape = Tape(until_ms=5000)
    tape.run(0)
    tape.run(1000)
    # Nothing is dispatched from 2000 on; the next leader comes after 3000.
    tape.run(3000, job=tape.job(3000, created=3700))
    tape.run(4000)
    report = tape.report()
    assert (report.coalesced, report.lost) == (1, [])
    assert report.sound


def test_a_tick_with_two_jobs_is_doubled() -> None:
    tape = Tape(until_ms=2000)
    tape.run(0)
    tape.run(1000)
    tape.run(1000, job=tape.job(1000, job_id="another"))
    report = tape.report()
    assert report.doubled == [("t", ms(at(1000)))]
    assert not report.sound


def test_a_tick_with_two_runs_is_doubled() -> None:
    tape = Tape(until_ms=2000)
    tape.run(0)
    tape.run(1000)
    again = tape.job(1000, job_id="another").model_copy(update={"run_id": "another run"})
    tape.run(1000, job=again)
    assert tape.report().doubled == [("t", ms(at(1000)))]


def test_ticks_during_a_run_are_skipped_and_told_once() -> None:
    tape = Tape(until_ms=5000)
    tape.run(0, ended=2500)
    tape.skip(1000)
    tape.run(3000)
    tape.run(4000)
    report = tape.report()
    assert (report.due, report.enqueued, report.skipped, report.lost) == (5, 3, 2, [])


def test_a_tick_after_the_run_that_others_were_skipped_for_is_lost() -> None:
    tape = Tape(until_ms=5000)
    tape.run(0, ended=1500)
    tape.skip(1000)
    tape.run(2500, job=tape.job(2500, task_id="other"))
    tape.run(3000)
    tape.run(4000)
    report = tape.report()
    assert (report.skipped, report.lost) == (1, [("task", ms(at(2000)))])


def test_a_tick_during_a_run_that_nobody_told_of_is_lost() -> None:
    tape = Tape(until_ms=3000)
    tape.run(0, ended=1500)
    tape.run(1200, job=tape.job(1200, task_id="other"))
    tape.run(2000)
    assert tape.report().lost == [("task", ms(at(1000)))]


def test_retries_are_attempts_of_one_run() -> None:
    tape = Tape(until_ms=1000)
    first = tape.job(0)
    for event in (Event.JOB_SCHEDULED, Event.JOB_STARTED):
        tape.hear(event, task=tape.task, job=first)
    tape.write("start", first)
    tape.write("failed", first)
    tape.end(Event.JOB_FAILED, first, 20)
    tape.end(Event.JOB_RETRYING, first, 20)
    tape.run(0, job=tape.job(0, attempt=2))
    report = tape.report()
    assert report.sound
    assert (report.enqueued, report.run, report.doubled) == (1, 1, [])
    assert (report.failed_attempts, report.retries, report.failed_runs) == (1, 1, 0)
    assert (report.starts, report.extra_starts) == (2, 0)


def test_a_run_that_waits_for_its_retry_has_no_outcome_yet() -> None:
    tape = Tape(until_ms=1000)
    first = tape.job(0)
    tape.hear(Event.JOB_SCHEDULED, task=tape.task, job=first)
    tape.end(Event.JOB_FAILED, first, 20)
    tape.end(Event.JOB_RETRYING, first, 20)
    report = tape.report()
    assert report.unfinished == [first.id]
    assert not report.sound


def test_a_job_without_an_outcome_is_found() -> None:
    tape = Tape(until_ms=1000)
    tape.hear(Event.JOB_SCHEDULED, task=tape.task, job=tape.job(0))
    report = tape.report()
    assert report.unfinished
    assert not report.sound


def test_a_second_start_is_listed_with_its_reason() -> None:
    tape = Tape(until_ms=2000)
    killed, drained = tape.job(0), tape.job(1000)
    for job in (killed, drained):
        tape.write("start", job, pid=7)
        tape.run(0, job=job)
    tape.hear(Event.JOB_LOST, task=tape.task, job=killed)
    report = tape.report()
    assert (report.starts, report.extra_starts) == (4, 2)
    assert report.restarted == {
        killed.id: "its worker was killed",
        drained.id: "its worker drained",
    }
    assert report.sound


def test_a_completion_that_no_handler_wrote_down_is_found() -> None:
    tape = Tape(until_ms=1000)
    job = tape.run(0)
    tape.ledger.clear()
    report = tape.report()
    assert report.unproved == [job.id]
    assert not report.sound


def test_lost_events_make_the_evidence_incomplete() -> None:
    tape = Tape(until_ms=1000)
    tape.run(0)
    tape.hear(Event.EVENTS_LOST, eventgap=EventGap(from_id=None, to_id=None))
    assert not tape.report().sound


def test_a_run_in_which_nothing_was_due_proves_nothing() -> None:
    assert not Tape(until_ms=0).report().sound


def test_a_gap_ends_with_the_first_tick_of_the_next_term() -> None:
    tape = Tape(until_ms=3000)
    tape.run(0)
    killed_ms = ms(at(500))
    tape.hear(Event.LEADER_ELECTED, node=Node(id="old", epoch=ms(at(-100))))
    tape.hear(Event.LEADER_ELECTED, node=Node(id="new", epoch=ms(at(900))))
    tape.run(1000)
    tape.run(2000)
    (gap,) = tape.report(("kill", killed_ms)).gaps
    assert gap.seconds == pytest.approx((1000 + LATE_MS - 500) / 1000)


def test_a_gap_that_nobody_ends_has_no_length() -> None:
    tape = Tape(until_ms=1000)
    tape.run(0)
    (gap,) = tape.report(("kill", ms(at(500)))).gaps
    assert gap.seconds is None


def test_crons_with_seconds_are_computed_from_the_first_tick_on() -> None:
    task = Task(id="t", task_name="task", next_run_at=at(3000), cron="*/3 * * * * *")
    found = [moment - ms(at(0)) for moment in due_ticks(task, at(12_000))]
    assert found == [3000, 6000, 9000]
