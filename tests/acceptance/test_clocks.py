"""Wall clocks that are an hour off change no tick: due decisions are the server's."""

from __future__ import annotations

from tests.acceptance.load import add_tasks, steady, ticks_for
from tests.chaos.evidence import read_ledger
from tests.chaos.verdict import judge
from tests.fleet import Fleet, skewed


async def test_processes_an_hour_ahead_and_behind_tick_when_the_server_says(fleet: Fleet) -> None:
    for hours in (+1, -1, 0):
        await fleet.scheduler(env=skewed(hours) if hours else None)
    for hours in (+1, -1):
        await fleet.worker(env=skewed(hours))
    await add_tasks(fleet, 20)
    epoch = 0
    # Each of the three leads once: the one ahead, the one behind, the right one.
    for _ in range(3):
        elected, _ = await steady(fleet, epoch)
        epoch = elected.epoch or 0
        await ticks_for(fleet, 2)
        leader = await fleet.leader()
        leader.terminate()
        assert await leader.ended() == 0, leader.tail()
        await fleet.scheduler(env=skewed(+1))
    await judge(fleet)
    offsets = {round((line.wall_s - line.at_s) / 3600) for line in read_ledger(fleet.ledger)}
    assert max(offsets) - min(offsets) == 2, "the workers' clocks were not skewed"
