"""Random faults under load; whatever they were, the invariants hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quiv_dist.exceptions import TaskRunningError
from tests.acceptance.load import Submissions, add_tasks, ticks_for
from tests.chaos.monkey import Monkey
from tests.chaos.subscribers import Subscriber
from tests.chaos.verdict import judge
from tests.conftest import OwnServer
from tests.fleet import Fleet, until

SHORT_SEED = 1
SHORT_S = 25.0
# `make chaos` runs these; one given seed is run alone.
_GIVEN = os.environ.get("QUIV_CHAOS_SEED")
LONG_SEEDS = [int(_GIVEN)] if _GIVEN else [2, 3, 4, 5]
LONG_S = float(os.environ.get("QUIV_CHAOS_SECONDS", "90"))
TASKS = 15


async def resume_all(fleet: Fleet) -> bool:
    """Resume what is paused; a task whose run is live refuses, and is tried again."""
    refused = False
    for task in await fleet.client.get_all_tasks(status="paused"):
        try:
            await fleet.client.resume_task(task.id)
        except TaskRunningError:
            refused = True
    return not refused


async def run(own_server: OwnServer, directory: Path, seed: int, seconds: float) -> None:
    # With everysec a server that is killed may lose what it has acknowledged: a write to its file
    # waits for an fsync under way. What is lost there is lost, and runs again under the same ids.
    server = own_server(options={"appendonly": "yes", "appendfsync": "always"})
    monkeys: list[Monkey] = []

    def url_for(name: str) -> str:
        return monkeys[0].url_for(name)

    fleet = Fleet(server.url, "chaos", directory, url_for=url_for)
    async with fleet, Monkey(fleet, server, seed) as monkey:
        monkeys.append(monkey)
        subscriber = Subscriber(fleet.client)
        await subscriber.listen()
        await monkey.populate()
        await add_tasks(fleet, TASKS)
        load = Submissions(fleet, pause_s=0.1)
        await monkey.rage(seconds)
        accepted = await load.end()
        await until(lambda: resume_all(fleet), timeout_s=30, what="every task is resumed")
        # All is mended: within the budgets everything ticks again.
        await ticks_for(fleet, 3)
        evidence = await judge(fleet, outages_ms=monkey.outages_ms, accepted=accepted)
        await until(
            lambda: subscriber.hears_all(evidence.events),
            timeout_s=20,
            what="the subscriber has heard all",
        )
        assert not list(subscriber.violations(evidence.events))
        print(f"\nseed {seed}: {len(monkey.done)} faults, {len(evidence.events)} events,"
              f" {len(accepted)} submissions ({load.refused} refused)")  # fmt: skip


@pytest.mark.chaos
@pytest.mark.timeout(180)
async def test_a_short_run(own_server: OwnServer, tmp_path: Path) -> None:
    await run(own_server, tmp_path / "fleet", SHORT_SEED, SHORT_S)


@pytest.mark.chaos_long
@pytest.mark.parametrize("seed", LONG_SEEDS)
async def test_a_long_run(own_server: OwnServer, tmp_path: Path, seed: int) -> None:
    await run(own_server, tmp_path / "fleet", seed, LONG_S)
