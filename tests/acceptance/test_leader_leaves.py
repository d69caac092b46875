"""A leader that is asked to end, and one that is frozen beyond its lease and comes back."""

from __future__ import annotations

from statistics import median

import pytest

from quiv_dist.config import Settings
from quiv_dist.exceptions import LeadershipLostError
from quiv_dist.store.records import Fire
from tests.acceptance.budgets import AFTER_SIGTERM_S, AFTER_SPLIT_S, LEADER_LEASE_S
from tests.acceptance.conftest import Report
from tests.acceptance.load import add_tasks, steady
from tests.chaos.verdict import judge
from tests.fleet import Fleet, until

TERMINATIONS = 5


async def test_after_sigterm_the_next_one_dispatches_within_three_tenths_of_a_second(
    fleet: Fleet, report: Report
) -> None:
    for _ in range(3):
        await fleet.scheduler()
    await fleet.worker()
    await add_tasks(fleet, 50)
    elected, _ = await steady(fleet, 0)
    took: list[float] = []
    for _ in range(TERMINATIONS):
        leader = await fleet.leader()
        asked_s = leader.terminate()
        elected, first = await steady(fleet, elected.epoch or 0)
        took.append(first.at_ms / 1000 - asked_s)
        assert await leader.ended() == 0, leader.tail()
        await fleet.scheduler()
    evidence = await judge(fleet)
    report("from SIGTERM of the leader to the next dispatch", took)
    assert median(took) < AFTER_SIGTERM_S
    assert max(took) < AFTER_SPLIT_S
    assert not evidence.of("tick_missed", "job_lost")


async def test_a_frozen_leader_is_replaced_and_writes_nothing_when_it_comes_back(
    fleet: Fleet,
) -> None:
    for _ in range(2):
        await fleet.scheduler()
    await fleet.worker()
    await add_tasks(fleet, 20)
    elected, _ = await steady(fleet, 0)
    frozen = await fleet.leader()
    old_holder, _ = await fleet.store.reads().leader()
    frozen_s = fleet.disturb(frozen).freeze()

    elected, first = await steady(fleet, elected.epoch or 0)
    assert first.at_ms / 1000 - frozen_s < AFTER_SPLIT_S
    assert first.at_ms / 1000 - frozen_s > LEADER_LEASE_S / 2, "a frozen process keeps its presence"

    frozen.thaw()
    await until(
        lambda: "leading no more" in frozen.tail(), timeout_s=10, what="the old leader gives up"
    )
    holder, _ = await fleet.store.reads().leader()
    assert holder != old_holder
    await _every_write_of_the_old_term_is_refused(fleet, old_holder)
    # It goes on as a standby, and leads again when it is its turn.
    second = await fleet.leader()
    assert second is not frozen
    second.terminate()
    await steady(fleet, elected.epoch or 0)
    assert await fleet.leader() is frozen
    await judge(fleet)


async def _every_write_of_the_old_term_is_refused(fleet: Fleet, holder: str) -> None:
    partition = fleet.store.partition()
    task_id = (await fleet.store.reads().task_ids())[0]
    row = (await partition.read_tasks([task_id]))[0]
    assert row is not None
    fire = Fire(
        f"t:{task_id}", row.due_ms, row.revision, row.nominal_ms, "run", "job", row.nominal_ms
    )
    for write in (
        partition.fire(holder, [fire]),
        partition.reclaim(holder, "any"),
        partition.recover_pending(holder, "default", "normal"),
        partition.settle_parked(holder),
        partition.purge(holder),
        partition.audit(holder, [task_id]),
        partition.retire_node("any", holder=holder),
    ):
        with pytest.raises(LeadershipLostError):
            await write
    assert not await partition.resign(holder)
    renewed = await partition.renew_leader(holder, lease_ms=Settings().leader_lease_ms)
    assert not renewed.held
