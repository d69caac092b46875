"""Random histories of users, two leaders and two workers, each of whom may act on an old read."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis.asyncio import Redis

from quiv_dist.config import Settings
from quiv_dist.core import ids
from quiv_dist.exceptions import LeadershipLostError
from quiv_dist.store.namespace import Store
from quiv_dist.store.records import NOW, Claimed, Delivered, Due, Fire, TaskRow, UnregisteredError
from tests.store.build import NORMAL, T0, definition, end, node, submission, tick
from tests.store.ledger import Ledger
from tests.store.state import World

TASKS = st.sampled_from(["A", "B"])
WORKERS = st.sampled_from(["W", "X"])
LEADERS = st.sampled_from(["L", "M"])
MODES = st.sampled_from(["fixed", "after", "once", "cron"])
# An interval, a leader lease, a job lease, the grace of handlers, the retention.
STEPS = st.sampled_from([1, 400, 1000, 5000, 15_000, 60_000])
HANDLERS = {"W": ("app:tidy",), "X": ("app:tidy", "app:other")}
SETTINGS = Settings(pending_idle_ms=0, history_retention_ms=600_000)


class StoreMachine(RuleBasedStateMachine):
    """The typed calls in any order; what must always hold is in the ledger."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._run(self._open())
        self.holders: dict[str, str] = {}
        self.ahead: dict[str, list[Due]] = {"L": [], "M": []}
        self.rows: dict[str, TaskRow] = {}
        self.held: list[tuple[str, Claimed]] = []
        self.delivered: dict[str, list[Delivered]] = {"W": [], "X": []}
        self.numbers = 0
        self.tasks = False

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    async def _open(self) -> None:
        namespace = f"machine-{uuid.uuid4().hex[:12]}"
        store = Store(self.url, namespace, SETTINGS, virtual_ms=T0)
        self._client = Redis.from_url(self.url, protocol=2)
        self.world = World(store, self._client, namespace, T0)
        self.p = self.world.partition
        self.ledger = Ledger(self.world)
        await self.world.open()
        await self.world.reads.create_groups(NORMAL)

    def _number(self) -> int:
        self.numbers += 1
        return self.numbers

    def _read(self, task: str, stale: bool) -> TaskRow | None:
        """What a user knows of a task: the newest, or what an earlier call read."""
        if not stale:
            (row,) = self._run(self.p.read_tasks([task]))
            if row is None:
                self.rows.pop(task, None)
            else:
                self.rows[task] = row
        return self.rows.get(task)

    # Users --------------------------------------------------------------------------------------

    @initialize(leader=LEADERS, modes=st.tuples(MODES, MODES))
    def begin(self, leader: str, modes: tuple[str, str]) -> None:
        """Begin with a leader, both workers and both tasks there; any of them may go."""
        self.elect(leader)
        for worker in ("W", "X"):
            self.register(worker)
        for task, mode in zip(("A", "B"), modes, strict=True):
            self.put(task, mode, stale=False, crashes=2)

    @rule(task=TASKS, mode=MODES, stale=st.booleans(), crashes=st.integers(1, 2))
    def put(self, task: str, mode: str, stale: bool, crashes: int) -> None:
        row = self._read(task, stale)
        made = self._definition(task, mode, crashes)
        number = self._number()
        reply = self._run(
            self.p.put_task(
                task, made, tick(self.world.now + 1000), if_exists="replace", read=row,
                incarnation=f"inc-{number}", call=f"call-{number}",
            )
        )  # fmt: skip
        assert reply.word in {"CREATED", "REPLACED", "SAME", "STALE"}
        self.tasks = True

    @precondition(lambda self: self.tasks)
    @rule(task=TASKS, mode=MODES, stale=st.booleans(), move=st.booleans())
    def update(self, task: str, mode: str, stale: bool, move: bool) -> None:
        row = self._read(task, stale)
        if row is not None:
            made = self._definition(task, mode, 2)
            next_ = NOW if move or mode != row.trigger.decode() else None
            reply = self._run(self.p.update_task(task, row, made, next_, call=""))
            assert reply.word in {"OK", "STALE", "GONE"}

    def _definition(self, task: str, mode: str, crashes: int) -> Any:
        static = b'"id":"%b","task_name":"%b"' % (task.encode(), task.encode())
        handler = "app:other" if task == "B" else "app:tidy"
        return definition(
            static=static, mode=mode, trigger=mode.encode(), max_crashes=crashes, handler=handler,
            name=task,
        )  # fmt: skip

    @precondition(lambda self: self.tasks)
    @rule(task=TASKS)
    def pause(self, task: str) -> None:
        self._run(self.p.pause_task(task, reason="r", actor="a", call=""))

    @precondition(lambda self: self.tasks)
    @rule(task=TASKS)
    def resume(self, task: str) -> None:
        self._run(self.p.resume_task(task, delay_ms=100, tick=None, call=""))

    @precondition(lambda self: self.tasks)
    @rule(task=TASKS, surely=st.sampled_from([True, False, False]))
    def remove(self, task: str, surely: bool) -> None:
        if surely:
            self._run(self.p.remove_task(task, call=""))

    @precondition(lambda self: self.tasks)
    @rule(task=TASKS, again=st.booleans())
    def run_now(self, task: str, again: bool) -> None:
        number = self._number()
        run = f"now-{number}"
        for _ in range(1 + again):
            word = self._run(
                self.p.run_now(task, run_id=run, job_id=ids.job_id("0000", number), call=run)
            )
            assert word in {"OK", "RUNNING", "PAUSED", "GONE"}

    @rule(handler=st.sampled_from(["app:tidy", "app:other", "app:none"]), again=st.booleans())
    def submit(self, handler: str, again: bool) -> None:
        item = submission(self._number(), handler=handler, max_crashes=2)
        assert self._run(self.p.submit([item], call="")) == [True]
        if again:
            assert self._run(self.p.submit([item], call="")) == [False]

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        jobs = sorted(self._run(self.world.reads.job_ids(newest_first=False)))
        if jobs:
            self._run(self.p.cancel(data.draw(st.sampled_from(jobs)), call=""))

    @rule(ms=STEPS)
    def time_passes(self, ms: int) -> None:
        self._run(self.world.after(ms))

    @rule(worker=WORKERS, work=st.sampled_from(["none", "claim", "completed", "failed"]))
    def a_tick_comes_due(self, worker: str, work: str) -> None:
        """The clock moves to the next due time; whoever leads fires, and a worker works."""
        due = self._run(self.world.reads.next_due_ms())
        if due is not None and due > self.world.now:
            self._run(self.world.at(due))
        if self._run(self.world.reads.leader())[1] <= self.world.now:
            self.elect("L")
        holder, _ = self._run(self.world.reads.leader())
        for leader, known in self.holders.items():
            if known == holder:
                self.peek(leader, 0)
                self.fire(leader)
        if work == "none":
            return
        known_before = len(self.held)
        self.claim(worker, 2)
        if work != "claim":
            for _, job in self.held[known_before:]:
                retry = (ids.job_id("0000", self._number()), 500) if job.attempt < 3 else None
                self._finish(worker, job, work, retry)

    # Leaders ------------------------------------------------------------------------------------

    @rule(leader=LEADERS)
    def elect(self, leader: str) -> None:
        reply = self._run(self.p.elect(leader, lease_ms=5000))
        if reply.held:
            self.ledger.elected(reply.holder)
            self.holders[leader] = reply.holder

    @rule(leader=LEADERS, ahead=st.sampled_from([0, 1000]))
    def peek(self, leader: str, ahead: int) -> None:
        self.ahead[leader] = self._run(self.p.peek_due(ahead_ms=ahead, most=50))[1]

    @rule(leader=LEADERS)
    def fire(self, leader: str) -> None:
        shots = [self._shot(item) for item in self.ahead[leader]]
        words = self._as_leader(leader, lambda holder: self.p.fire(holder, shots))
        for shot, word in zip(shots, words or (), strict=False):
            self.ledger.fired(shot, word)

    def _shot(self, item: Due) -> Fire:
        if item.member.startswith("r:"):
            return Fire(item.member, item.due_ms)
        now, at = self.world.now, item.nominal_ms
        repeats = item.trigger in {b"fixed", b"cron"}
        newest = max(at, now - (now - at) % 1000) if repeats else at
        run = ids.run_id(0, "ns", "tick", item.member[2:], item.incarnation, str(newest))
        after = newest + 1000 if repeats else None
        passed = ("coalesced", at, newest - 1000, (newest - at) // 1000) if newest > at else None
        return Fire(
            item.member, item.due_ms, item.revision, newest, run, ids.job_id(run, 1), newest, after,
            after, passed,
        )  # fmt: skip

    def _as_leader(self, leader: str, act: Any) -> Any:
        """Act as a leader that may have been deposed: then nothing must have changed."""
        holder = self.holders.get(leader)
        if holder is None:
            return None
        current, _ = self._run(self.world.reads.leader())
        before = self._run(self.world.dump()) if holder != current else None
        try:
            reply = self._run(act(holder))
        except LeadershipLostError:
            assert holder != current
            assert self._run(self.world.dump()) == before
            return None
        assert holder == current
        return reply

    @rule(worker=WORKERS)
    def a_lease_ends(self, worker: str) -> None:
        """A worker hangs until its leases are over, and whoever leads takes its jobs back."""
        self._run(self.world.after(15_000))
        holder, _ = self._run(self.world.reads.leader())
        for leader, known in self.holders.items():
            if known == holder:
                self.reclaim(leader, worker)

    @rule(leader=LEADERS, worker=WORKERS)
    def reclaim(self, leader: str, worker: str) -> None:
        self._as_leader(leader, lambda holder: self.p.reclaim(holder, worker))

    @rule(leader=LEADERS)
    def recover(self, leader: str) -> None:
        for queue, priority in NORMAL:
            self._as_leader(leader, lambda h, q=(queue, priority): self.p.recover_pending(h, *q))

    @rule(leader=LEADERS, worker=WORKERS)
    def retire(self, leader: str, worker: str) -> None:
        self._as_leader(leader, lambda holder: self.p.retire_node(worker, holder=holder))

    @rule(leader=LEADERS)
    def sweep(self, leader: str) -> None:
        self._as_leader(leader, self.p.settle_parked)
        self._as_leader(leader, self.p.purge)
        tasks = self._run(self.world.reads.task_ids())
        if tasks:
            found = self._as_leader(leader, lambda holder: self.p.audit(holder, tasks))
            assert not found, "an audit never finds anything"

    # Workers ------------------------------------------------------------------------------------

    @rule(worker=WORKERS)
    def register(self, worker: str) -> None:
        self._run(node(self.world, worker, HANDLERS[worker]))

    @rule(worker=WORKERS)
    def wait(self, worker: str) -> None:
        streams = NORMAL[1:2]
        self.delivered[worker] += self._run(self.world.reads.wait_for_entry(worker, streams, 1))

    @rule(worker=WORKERS, slots=st.integers(0, 3))
    def claim(self, worker: str, slots: int) -> None:
        handed = self.delivered[worker]
        claim = self.p.claim(worker, slots=slots, streams=NORMAL, delivered=handed)
        try:
            _, jobs = self._run(claim)
        except UnregisteredError:
            return  # What was delivered is kept until the node has registered.
        self.delivered[worker] = []
        assert len(jobs) <= slots
        for job in jobs:
            self.ledger.started(job)
            self.held.append((worker, job))

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["completed", "failed", "cancelled", "handback"]),
        retry=st.booleans(),
        forget=st.booleans(),
    )
    def finish(self, data: st.DataObject, outcome: str, retry: bool, forget: bool) -> None:
        """End a delivery that a worker believes it has; it may do so again later."""
        worker, job = data.draw(st.sampled_from(self.held))
        again = (ids.job_id("0000", self._number()), 500) if retry else None
        self._finish(worker, job, outcome, again)
        if forget:
            self.held.remove((worker, job))

    def _finish(
        self, worker: str, job: Claimed, outcome: str, retry: tuple[str, int] | None
    ) -> None:
        before = self._run(self.world.dump())
        (word,) = self._run(self.p.finish(worker, [end(job, outcome, retry=retry)]))
        self.ledger.finished(before, worker, job, word)

    @rule(worker=WORKERS)
    def renew(self, worker: str) -> None:
        mine = [job for holder, job in self.held if holder == worker]
        leases = [(job.job_id, job.entry, job.delivery) for job in mine]
        reply = self._run(self.p.renew(worker, leases))
        self.held = [
            (holder, job)
            for holder, job in self.held
            if holder != worker or job.job_id not in reply.lost
        ]

    @rule(worker=WORKERS)
    def crash(self, worker: str) -> None:
        self.held = [(holder, job) for holder, job in self.held if holder != worker]
        self.delivered[worker] = []

    # What must hold -----------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        self._run(self.ledger.check())

    def teardown(self) -> None:
        try:
            self._run(self._quiesce())
        finally:
            self._run(self._close())
            self._runner.close()

    async def _quiesce(self) -> None:
        """Everybody dies but one leader and one worker, who bring all to its end."""
        world, p = self.world, self.p
        for task in await world.reads.task_ids():
            await p.remove_task(task, call="")
        await world.after(600_000)
        holder = (await p.elect("Q", lease_ms=5000)).holder
        await node(world, "Q", ("app:tidy", "app:other", "app:none"))
        for worker in ("W", "X"):
            await p.reclaim(holder, worker)
            assert await p.retire_node(worker, holder=holder) == "OK"
        while True:
            _, due = await p.peek_due(ahead_ms=0, most=50)
            await p.fire(holder, [self._shot(item) for item in due])
            _, jobs = await p.claim("Q", slots=50, streams=NORMAL)
            if not jobs and not due:
                break
            for job in jobs:
                self.ledger.started(job)
            words = await p.finish("Q", [end(job) for job in jobs])
            assert Counter(words) == Counter(OK=len(jobs))
        await p.retire_node("Q")
        await self.ledger.check()
        await self.ledger.check_quiet()

    async def _close(self) -> None:
        names = await self.world.names()
        await self.world.command("UNLINK", *map(self.world.keys.key, names))
        await self.world.close()
        await self._client.aclose()
