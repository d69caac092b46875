"""What was asked and answered, kept outside Redis, and what must hold of the stored state."""

from __future__ import annotations

from collections import Counter, defaultdict

from quiv_dist.core.leases import epoch_of
from quiv_dist.store.records import Claimed, Fire
from tests.store.state import State, World

FINAL = {"completed", "failed", "cancelled"}


def fields(state: State, prefix: str) -> dict[str, dict[str, str]]:
    """The hashes of a state whose name begins with `prefix`, by the rest of the name."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name, value in state.items():
        if name.startswith(prefix) and "." in name:
            record, _, label = name.removeprefix(prefix).partition(".")
            found[record][label] = value
    return found


def members(state: State, prefix: str) -> dict[tuple[str, str], int]:
    """The members of sets whose name begins with `prefix`, by the rest of the name and member."""
    found = {}
    for name, value in state.items():
        if name.startswith(prefix) and name.endswith("]"):
            rest, _, member = name.removeprefix(prefix)[:-1].partition("[")
            found[rest, member] = value
    return found


class Ledger:
    """Numbers in comments are those of the invariants of the design."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._epochs: list[int] = []
        self._ticks: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._last: dict[tuple[str, str], int] = {}
        self._deliveries: set[tuple[str, int]] = set()
        self._scheduled: dict[tuple[str, int], str] = {}
        self._accepted: set[str] = set()
        self._ends: Counter[str] = Counter()
        self._incarnations: dict[str, str] = {}

    # Told by the machine ------------------------------------------------------------------------

    def elected(self, holder: str) -> None:
        epoch = epoch_of(holder)
        assert not self._epochs or epoch > self._epochs[-1], "4: epochs rise"
        self._epochs.append(epoch)

    def fired(self, shot: Fire, word: str) -> None:
        if word not in {"OK", "SKIPPED", "PASSED"} or shot.member.startswith("r:"):
            return
        task = shot.member[2:]
        ticks = self._ticks[task, self._incarnations[task]]
        assert shot.newest_ms not in ticks, "1, 11: no nominal time is fired twice"
        passed = shot.passed[3] if shot.passed else 0
        ticks += [shot.newest_ms] * (1 + passed)

    def started(self, job: Claimed) -> None:
        delivery = (job.job_id, job.delivery)
        assert delivery not in self._deliveries, "a delivery starts once"
        self._deliveries.add(delivery)

    def finished(self, before: State, worker: str, job: Claimed, word: str) -> None:
        name = f"job:{job.job_id}."
        current = (
            before.get(name + "status") == "running"
            and before.get(name + "node") == worker
            and before.get(name + "deliv") == str(job.delivery)
        )
        assert (word != "REFUSED") == current, "14: only the current delivery ends a job"

    # Asked after every step -----------------------------------------------------------------------

    async def check(self) -> None:
        state = await self._world.dump()
        await self._check_events()
        self._check_tasks(state)
        self._check_jobs(state)

    async def _check_events(self) -> None:
        for event in await self._world.events():
            job = event.job
            if job is None:
                continue
            self._accepted.add(job.run_id)
            known = self._scheduled.setdefault((job.run_id, job.attempt), job.id)
            assert known == job.id, "1: one job id an attempt of a run"
            if event.type == "job_retrying":
                self._ends[job.run_id] -= 1
            elif event.type in {"job_completed", "job_failed", "job_cancelled"}:
                self._ends[job.run_id] += 1
        assert max(self._ends.values(), default=0) <= 1, "12: one final outcome a run"

    def _check_tasks(self, state: State) -> None:
        due = {member: ms for (_, member), ms in members(state, "due").items()}
        tasks = fields(state, "task:")
        live = fields(state, "live:")
        self._incarnations = {task: record["inc"] for task, record in tasks.items()}
        assert {member for _, member in members(state, "tasks")} == tasks.keys()
        assert live.keys() <= tasks.keys(), "13: live runs belong to a task"
        for task, record in tasks.items():
            key = (task, record["inc"])
            last = int(record["last"])
            assert last >= self._last.get(key, 0), "6: the last nominal time never decreases"
            self._last[key] = last
            runs = live.get(task, {})
            assert len(runs) <= 1, "9: no more live runs than may be"
            pending = due.pop(f"t:{task}", None)
            assert record["due"] == ("" if pending is None else str(pending)), "11: one due time"
            waiting = [job for job in runs.values() if due.pop(f"r:{job}", None) is not None]
            if record["state"] == "paused":
                assert pending is None, "10: a paused task fires nothing"
                assert not waiting, "10: a paused task fires nothing"
            else:
                assert pending is not None or runs, "6: a due time or a live run"
            self._check_journal(state, task, record)
        for member in due:
            assert member.startswith("r:"), "a due member without its task"
            assert state[f"job:{member[2:]}.kind"] == "submit"

    def _check_journal(self, state: State, task: str, record: dict[str, str]) -> None:
        entries = [value for (name, _), value in members(state, "journal:").items() if name == task]
        counted = sum(
            int(str(entry).split("|")[3])
            for entry in [*entries, record.get("journal", "")]
            if entry
        )
        ticks = self._ticks[task, record["inc"]]
        assert counted == len(ticks), "2: every tick has one recorded outcome"

    def _check_jobs(self, state: State) -> None:
        jobs = fields(state, "job:")
        due = {member for _, member in members(state, "due")}
        leases = {job: node for node, job in members(state, "leases:")}
        parked = {str(job) for job in members(state, "parked:").values()}
        streams = {
            value["j"]: name[name.index("[") + 1 : -1]
            for name, value in state.items()
            if name.startswith("q:") and name.endswith("]")
        }
        held_up = {
            job
            for task, runs in fields(state, "live:").items()
            if state[f"task:{task}.state"] == "paused"
            for job in runs.values()
        }
        assert {member for _, member in members(state, "jobs")} == jobs.keys()
        for job_id, job in jobs.items():
            ended = job["status"] in FINAL
            dead = job.get("dead") == "1"
            assert (f"ended[{job_id}]" in state) == (ended and not dead)
            assert (f"dead[{job_id}]" in state) == dead
            assert int(job.get("crashes", "0")) <= int(job.get("maxc", "99")), "16: crashes"
            if job["status"] == "running":
                assert leases.pop(job_id) == job["node"], "13: a running job is leased"
                if not job["entry"].startswith("parked-"):
                    assert streams.pop(job_id) == job["entry"]
            elif job["status"] == "scheduled":
                queued = streams.pop(job_id, None)
                assert queued == (job["entry"] or None)
                places = [queued, f"r:{job_id}" in due or None, job_id in parked or None]
                waits = job_id in held_up and job["entry"] == "" and job_id not in parked
                assert sum(place is not None for place in places) == (0 if waits else 1), (
                    "13: a job that waits, waits in one place"
                )
        assert not leases, "13: a lease without its running job"
        assert not streams, "13: a stream entry without its job"
        for name in state:
            if name.endswith(".pending"):
                assert state[name.removesuffix(".pending")], "13: pending without an entry"

    async def check_quiet(self) -> None:
        """When all has come to its end nothing is left, and every run has one outcome."""
        state = await self._world.dump()
        left = [
            name
            for name, value in state.items()
            if name.startswith(("live:", "leases:", "parked", "due", "task:", "tasks"))
            or (name.startswith("q:") and value != "stream")
        ]
        assert left == [], "13: streams, leases, indexes are empty"
        open_ = {run for run in self._accepted if self._ends[run] != 1}
        assert open_ == set(), "12: every accepted run has exactly one final outcome"
