"""kill -9 of the leader, twenty times in a row under fifty tasks a second."""

from __future__ import annotations

from statistics import median

import pytest

from quiv_dist.core.leases import epoch_of
from tests.acceptance.budgets import AFTER_KILL_S, AFTER_SPLIT_S, LEADER_LEASE_S
from tests.acceptance.conftest import Report
from tests.acceptance.load import add_tasks, steady
from tests.chaos.verdict import judge
from tests.fleet import Fleet

KILLS = 20
TASKS = 50
RUN_S = 60


async def early_takeover_allowed(fleet: Fleet) -> bool:
    """Tell whether a standby may take over before the lease ends: once a lease period."""
    store = fleet.store
    taken = await store._execute("HGET", store.keys().key("leader"), "taken_over")
    return await store.now_ms() - int(taken or 0) >= LEADER_LEASE_S * 1000


@pytest.mark.timeout(240)
async def test_the_next_one_dispatches_within_a_second_and_no_tick_is_lost_or_doubled(
    fleet: Fleet, report: Report
) -> None:
    for _ in range(3):
        await fleet.scheduler()
    for _ in range(2):
        await fleet.worker()
    await add_tasks(fleet, TASKS)
    early: list[float] = []
    every: list[float] = []
    epoch = 0
    for _ in range(KILLS):
        elected, _ = await steady(fleet, epoch)
        epoch = elected.epoch or 0
        leader = await fleet.leader()
        holder, _ = await fleet.store.reads().leader()
        assert epoch_of(holder) == epoch, "the leader changed without being killed"
        may_be_early = await early_takeover_allowed(fleet)
        killed_s = fleet.disturb(leader).kill()
        fleet.launch("scheduler")
        _, first = await steady(fleet, epoch)
        every.append(first.at_ms / 1000 - killed_s)
        if may_be_early:
            early.append(every[-1])
    begin_ms = fleet.tape.events[0].at_ms
    await fleet.tape.first(
        lambda event: event.at_ms > begin_ms + RUN_S * 1000,
        timeout_s=RUN_S,
        what=f"{RUN_S} s of running",
    )
    await judge(fleet)
    report("from kill -9 of the leader to the next dispatch", every)
    report("the same, where no takeover came in the lease period before", early)
    assert len(early) >= 5
    assert median(early) < AFTER_KILL_S
    assert max(every) < AFTER_SPLIT_S
