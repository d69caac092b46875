"""The server restarts, crashes, freezes, or comes back with nothing."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from quiv_dist.core.wire import Envelope
from tests.acceptance.budgets import AFTER_SPLIT_S
from tests.acceptance.load import Submissions, add_tasks, is_tick, ticks_for, wall_ms
from tests.chaos.verdict import judge
from tests.conftest import OwnServer
from tests.fleet import Fleet
from tests.servers import RedisServer

# Connections come back with waits of up to 2 s; leaders and leases after them.
BACK_MS = 3_000
FROZEN_S = 10.0


@pytest.mark.parametrize("kill", [False, True], ids=["restart", "crash"])
async def test_a_restart_with_its_append_only_file_loses_and_doubles_nothing(
    fleet: Fleet, server: RedisServer, kill: bool
) -> None:
    members = [await fleet.scheduler(), await fleet.scheduler()]
    members += [await fleet.worker(), await fleet.worker()]
    await add_tasks(fleet, 20)
    load = Submissions(fleet)
    await ticks_for(fleet, 2)
    gone_ms = wall_ms()
    await asyncio.to_thread(server.restart, kill=kill)
    outage = (gone_ms, wall_ms() + BACK_MS)
    await ticks_for(fleet, 3)
    accepted = await load.end()
    assert all(member.alive for member in members)
    evidence = await judge(fleet, outages_ms=[outage], accepted=accepted)
    assert len(accepted) > 20
    assert not evidence.of("job_lost")


async def test_a_frozen_server_costs_no_tick_and_no_live_worker_a_job(
    fleet: Fleet, server: RedisServer
) -> None:
    members = [await fleet.scheduler(), await fleet.scheduler()]
    members += [await fleet.worker(), await fleet.worker()]
    await add_tasks(fleet, 20)
    load = Submissions(fleet)
    await ticks_for(fleet, 2)
    gone_ms = wall_ms()
    server.pause()
    try:
        # Nothing can be heard of a server that does not answer: this is the length of the fault.
        await asyncio.sleep(FROZEN_S)
    finally:
        server.resume()
    outage = (gone_ms, wall_ms() + BACK_MS)
    await ticks_for(fleet, 3)
    accepted = await load.end()
    assert all(member.alive for member in members)
    evidence = await judge(fleet, outages_ms=[outage], accepted=accepted)
    assert not evidence.of("job_lost")


async def test_after_a_restart_without_data_the_fleet_stores_again_what_it_declares(
    own_server: OwnServer, tmp_path: Path
) -> None:
    server = own_server()
    app = "tests.acceptance.declaring_app"
    async with Fleet(server.url, "fleet", tmp_path / "fleet", app=app) as fleet:
        members = [await fleet.scheduler(), await fleet.scheduler(), await fleet.worker()]
        members.append(await fleet.joined(fleet.launch("application", "--pin")))
        await fleet.tape.first(is_tick, timeout_s=10, what="a tick")
        await asyncio.to_thread(server.restart)
        since = len(fleet.tape.events)
        for wanted in ("declared", "pinned"):
            await fleet.tape.first(
                partial(_starts, wanted),
                timeout_s=AFTER_SPLIT_S + 10,
                what=f"the {wanted} task runs again",
                since=since,
            )
        joined = [event.node.pid for event in fleet.tape.events[since:] if event.node is not None]
        assert all(member.alive for member in members)
        assert {member.pid for member in members} <= set(joined)


def _starts(name: str, event: Envelope) -> bool:
    """Tell whether a job of this task, named by id or by name, starts."""
    task = event.task
    return event.type == "job_started" and task is not None and name in {task.id, task.task_name}
