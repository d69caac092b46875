"""The story: a fleet starts, loses its leader and a busy worker, is restarted in part, and ends."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from quiv_dist import Event, Quiv
from workers.demo.audit import Report, audit, leaderless
from workers.demo.estate import Estate
from workers.demo.fleet import DemoError, Fleet, Member
from workers.demo.records import Entry, Heard, Lines
from workers.demo.screen import Screen

_START_S = 30.0
_CHANGE_S = 15.0
_DRAIN_S = 20.0
_ENDED = {Event.JOB_COMPLETED, Event.JOB_FAILED, Event.JOB_CANCELLED}


class Play:
    """One performance. ``seconds`` is how long the fleet works, with all that happens to it."""

    def __init__(
        self,
        quiv: Quiv,
        fleet: Fleet,
        estate: Estate,
        screen: Screen,
        directory: Path,
        seconds: float,
    ) -> None:
        self._quiv = quiv
        self._fleet = fleet
        self._estate = estate
        self._screen = screen
        self._seconds = seconds
        self._events_path = directory / "events.jsonl"
        self._events = Lines(self._events_path, Heard)
        self._ledger = Lines(directory / "ledger.jsonl", Entry)
        self._open: dict[str, str] = {}
        self._seen = 0
        self._began_s = 0.0
        self._ends: list[tuple[str, int]] = []
        self.drains: dict[str, str] = {}

    def perform(self) -> Report:
        """Play it to the end; return the audit."""
        self._start()
        self._work_until(0.25)
        self._kill_leader()
        self._work_until(0.45)
        self._kill_busy_worker()
        self._work_until(0.65)
        self._restart_leader()
        self._work_until(0.85)
        self._restart_worker()
        self._work_until(1.0)
        self._finish()
        self._drain()
        return audit(self._events.all, self._ledger.all, self._ends)

    # The acts -------------------------------------------------------------------------------------

    def _start(self) -> None:
        fleet = self._fleet
        fleet.start("listener", "-m", "workers.demo.listener", str(self._events_path))
        fleet.wait_for("the listener", self._events_path.exists, _START_S)
        for number in (1, 2):
            fleet.role("scheduler", f"scheduler-{number}")
        for number in (1, 2, 3):
            self._worker(number)
        fleet.wait_for("the fleet", self._is_up, _START_S)
        self._began_s = time.monotonic()
        self._screen.tell(
            f"2 schedulers, 3 workers and a listener are up; {self._estate.tasks} schedules;"
            f" {self._leader().name} leads"
        )

    def _kill_leader(self) -> None:
        leader = self._leader()
        self._screen.tell(f"kill -9 {leader.pid}: {leader.name}, the leader", bold=True)
        at_ms = self._fleet.kill(leader)
        self._led_again(leader, at_ms, "kill -9")
        self._fleet.role("scheduler", "scheduler-3")

    def _kill_busy_worker(self) -> None:
        member, job = self._busy_worker()
        at_ms = self._fleet.kill(member)
        self._screen.tell(f"kill -9 {member.pid}: {member.name}, in the middle of {job}", bold=True)
        self._worker(4)
        self._wait("its jobs to be given to others", lambda: self._taken_over(at_ms))
        taken_ms = max(item.heard_ms for item in self._events.all if _lost(item))
        self._screen.tell(f"its jobs were given to others after {(taken_ms - at_ms) / 1000:.1f} s")

    def _restart_leader(self) -> None:
        leader = self._leader()
        self._screen.tell(f"SIGTERM {leader.pid}: {leader.name}, the leader, hands over")
        at_ms = self._fleet.ask_to_end(leader)
        self._led_again(leader, at_ms, "SIGTERM")
        self._drained(leader)
        self._fleet.role("scheduler", "scheduler-4")

    def _restart_worker(self) -> None:
        member, job = self._busy_worker()
        self._fleet.ask_to_end(member)
        self._screen.tell(f"SIGTERM {member.pid}: {member.name}, in the middle of {job}, drains")
        self._worker(5)
        self._drained(member)

    def _finish(self) -> None:
        """Pause every schedule when no retry waits, and see every run to its end."""
        self._estate.site.heal()
        self._screen.tell("the site has no more failures; every schedule is paused")
        self._wait("the last retries", lambda: not self._retrying())
        for task in self._quiv.get_all_tasks():
            self._quiv.pause_task(task.id, reason="the demonstration ends")
        paused = self._estate.tasks
        self._wait("all runs to end", lambda: self._count(Event.TASK_PAUSED) == paused
                   and not self._open)  # fmt: skip

    def _drain(self) -> None:
        members = [*self._fleet.running("worker"), *self._fleet.running("scheduler")]
        for member in members:
            self._fleet.ask_to_end(member)
        for member in members:
            self._drained(member)
        self._screen.tell("every run has its outcome; SIGTERM to every process")
        pids = {member.pid for member in members}
        self._wait("their nodes to leave", lambda: pids <= self._left())
        (listener,) = self._fleet.running("listener")
        self._fleet.ask_to_end(listener)
        self._drained(listener)
        self._look()

    # Looking --------------------------------------------------------------------------------------

    def _worker(self, number: int) -> None:
        self._fleet.role("worker", f"worker-{number}", "--threads", "4", "--shutdown-timeout", "10")

    def _look(self) -> None:
        """Read what is new, and keep which runs are open."""
        self._ledger.read()
        for item in self._events.read():
            job = item.job
            if job is None:
                continue
            if item.event in _ENDED:
                self._open.pop(job.run_id, None)
            elif item.event is Event.JOB_RETRYING:
                self._open[job.run_id] = "retry"
            elif item.event in {Event.JOB_SCHEDULED, Event.JOB_STARTED}:
                self._open[job.run_id] = "job"

    def _wait(self, what: str, condition: object, timeout_s: float = _CHANGE_S) -> None:
        assert callable(condition)

        def holds() -> bool:
            self._show()
            return bool(condition())

        self._fleet.wait_for(what, holds, timeout_s)

    def _work_until(self, part: float) -> None:
        until_s = self._began_s + part * self._seconds
        self._wait("its time", lambda: time.monotonic() >= until_s, self._seconds + _CHANGE_S)

    def _show(self) -> None:
        self._look()
        self._screen.status(
            f"{self._count(Event.JOB_SCHEDULED)} jobs  {self._count(Event.JOB_COMPLETED)} completed"
            f"  {self._count(Event.JOB_FAILED)} failed  {self._count(Event.JOB_RETRYING)} retries"
            f"  {self._count(Event.TICK_SKIPPED)} skips  {len(self._open)} live"
        )

    def _count(self, event: Event) -> int:
        return sum(item.event is event for item in self._events.all)

    def _left(self) -> set[int]:
        """Return the process ids of nodes that left."""
        left = (item.node for item in self._events.all if item.event is Event.NODE_LEFT)
        return {node.pid for node in left if node}

    def _is_up(self) -> bool:
        self._look()
        return (
            self._count(Event.LEADER_ELECTED) == 1
            and self._count(Event.NODE_JOINED) >= 5
            and self._count(Event.TASK_ADDED) == self._estate.tasks
        )

    def _leader(self) -> Member:
        """Return the scheduler that leads, by the events."""
        self._look()
        elected = [item.node for item in self._events.all if item.event is Event.LEADER_ELECTED]
        assert elected[-1] is not None
        return self._fleet.named(elected[-1].pid)

    def _led_again(self, before: Member, at_ms: int, how: str) -> None:
        self._ends.append((f"{how} of {before.name}", at_ms))
        self._wait("the next leader", lambda: self._leader() is not before)
        self._wait("its first tick", lambda: self._gap_s() is not None)
        self._screen.tell(
            f"{self._leader().name} leads; nobody did for {self._gap_s():.2f} s", bold=True
        )

    def _gap_s(self) -> float | None:
        return leaderless(*self._ends[-1], self._events.all).seconds

    def _busy_worker(self) -> tuple[Member, str]:
        """Return a worker that has begun a backup this instant, by the ledger."""
        found: list[tuple[Member, str]] = []

        def begun() -> bool:
            self._show()
            running = {member.pid: member for member in self._fleet.running("worker")}
            new = self._ledger.all[self._seen :]
            self._seen = len(self._ledger.all)
            found.extend(
                (running[entry.pid], self._task_of(entry))
                for entry in new
                if entry.phase == "start" and entry.handler == "back_up" and entry.pid in running
            )
            return bool(found)

        self._show()
        self._seen = len(self._ledger.all)
        self._fleet.wait_for("a busy worker", begun, _CHANGE_S)
        return found[-1]

    def _task_of(self, entry: Entry) -> str:
        """Return the name of the task an entry is of, or its handler's if that was not heard."""
        names = (i.job.task_name for i in self._events.all if i.job and i.job.id == entry.job_id)
        return next(names, entry.handler)

    def _taken_over(self, since_ms: int) -> bool:
        return any(_lost(item) and item.heard_ms >= since_ms for item in self._events.all)

    def _retrying(self) -> bool:
        return "retry" in self._open.values()

    def _drained(self, member: Member) -> None:
        """Wait for a process that was asked to end; it must end in time and by itself."""
        try:
            code = member.process.wait(_DRAIN_S)
        except subprocess.TimeoutExpired as error:
            msg = f"{member.name} did not end within {_DRAIN_S:g} s of SIGTERM; see {member.log}"
            raise DemoError(msg) from error
        self.drains[member.name] = f"exit {code}"


def _lost(item: Heard) -> bool:
    return item.event is Event.JOB_LOST
