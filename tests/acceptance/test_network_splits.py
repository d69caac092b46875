"""Processes that live and are cut off from the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from quiv_dist.config import Settings
from tests.acceptance import fleet_app
from tests.acceptance.budgets import AFTER_SPLIT_S, LEADER_LEASE_S
from tests.acceptance.conftest import Report
from tests.acceptance.load import add_tasks, is_tick, steady, ticks_for
from tests.chaos.links import Link
from tests.chaos.raw import raw
from tests.chaos.verdict import judge
from tests.fleet import Fleet
from tests.servers import RedisServer

# Longer than a call is tried, shorter than a job's lease.
SPLIT_S = 7.0


@pytest.fixture
def links() -> dict[str, Link]:
    return {}


@pytest.fixture
async def fleet(
    server: RedisServer, tmp_path: Path, links: dict[str, Link]
) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:

        def url_for(name: str) -> str:
            links[name] = Link(server.port)
            stack.push_async_exit(links[name])
            return links[name].url

        directory = tmp_path / "fleet"
        yield await stack.enter_async_context(
            Fleet(server.url, "fleet", directory, url_for=url_for)
        )


async def test_a_leader_cut_off_is_replaced_within_its_lease_and_what_it_sent_is_refused(
    fleet: Fleet, links: dict[str, Link]
) -> None:
    for _ in range(2):
        await fleet.scheduler()
    await fleet.worker()
    await add_tasks(fleet, 30)
    elected, _ = await steady(fleet, 0)
    leader = fleet.disturb(await fleet.leader())
    cut_ms = await fleet.store.now_ms()
    links[leader.name].cut()
    elected, first = await steady(fleet, elected.epoch or 0)
    assert (first.at_ms - cut_ms) / 1000 < AFTER_SPLIT_S
    # Batches that it had sent arrive now, with the epoch of a term that is over.
    links[leader.name].heal()
    other = await fleet.leader()
    assert other is not leader
    other.terminate()
    await steady(fleet, elected.epoch or 0)
    assert await fleet.leader() is leader
    await judge(fleet)


async def test_a_leader_that_hears_nothing_is_replaced_and_does_not_win_again_unheard(
    fleet: Fleet, links: dict[str, Link], report: Report
) -> None:
    for _ in range(3):
        await fleet.scheduler()
    await fleet.worker()
    await add_tasks(fleet, 30)
    elected, _ = await steady(fleet, 0)
    deaf = fleet.disturb(await fleet.leader())
    cut_ms = await fleet.store.now_ms()
    # What it asks for arrives: a renewal more, and looks that could win the election.
    links[deaf.name].cut(replies_only=True)
    elected, first = await steady(fleet, elected.epoch or 0)
    took_s = (first.at_ms - cut_ms) / 1000
    report("from the last reply a leader heard to the next one's dispatch", [took_s])
    assert took_s < AFTER_SPLIT_S + Settings().leader_renew_s
    assert elected.node is not None
    assert elected.node.pid != deaf.pid
    await ticks_for(fleet, 3)
    links[deaf.name].heal()
    terms = fleet.tape.of("leader_elected")
    assert [term.node.pid for term in terms if term.node].count(deaf.pid) == 1
    await judge(fleet, outages_ms=[(cut_ms, first.at_ms)])


async def test_an_election_won_unheard_is_given_up_at_once(
    fleet: Fleet, links: dict[str, Link]
) -> None:
    leader = await fleet.scheduler()
    await fleet.worker()
    await add_tasks(fleet, 30)
    elected, _ = await steady(fleet, 0)
    standby = await fleet.scheduler()
    await ticks_for(fleet, 1)
    links[standby.name].lose_replies()
    leader.terminate()
    unheard = await fleet.tape.first(
        lambda event: event.type == "leader_elected" and (event.epoch or 0) > (elected.epoch or 0),
        timeout_s=10,
        what="the standby wins",
    )
    # The connection that the answer was on breaks; the one that shows its presence does not.
    async with raw(fleet.url) as client:
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    links[standby.name].heal()
    first = await fleet.tape.first(
        is_tick, timeout_s=10, what="a dispatch", since=fleet.tape.events.index(unheard)
    )
    # Less than a lease: it knows its own name in the answer to the next look.
    assert (first.at_ms - unheard.at_ms) / 1000 < LEADER_LEASE_S - 1
    await judge(fleet)


async def test_claims_whose_reply_is_lost_cost_no_crash(
    fleet: Fleet, links: dict[str, Link]
) -> None:
    await fleet.scheduler()
    worker = await fleet.worker()
    once = fleet.client.handler(max_crashes=1)(fleet_app.stubborn)
    await asyncio.wait_for(await once.submit_async(0.01), 10)
    links[worker.name].cut(replies_only=True)
    runs = [await once.submit_async(0.01) for _ in range(8)]
    # The length of the fault: the worker's claims arrive, and it hears of none.
    await asyncio.sleep(SPLIT_S)
    links[worker.name].heal()
    evidence = await judge(fleet, accepted={run.run_id for run in runs})
    assert not evidence.of("job_lost", "job_dead", "job_failed")


async def test_ends_whose_reply_is_lost_are_recorded_once(
    fleet: Fleet, links: dict[str, Link]
) -> None:
    await fleet.scheduler()
    worker = await fleet.worker()
    held = fleet.client.handler(max_crashes=1)(fleet_app.stubborn)
    runs = [await held.submit_async(1.0) for _ in range(8)]
    while len(fleet.tape.of("job_started")) < len(runs):
        assert await fleet.tape.changed(10)
    links[worker.name].cut(replies_only=True)
    await asyncio.sleep(SPLIT_S)
    links[worker.name].heal()
    evidence = await judge(fleet, accepted={run.run_id for run in runs})
    assert not evidence.of("job_lost", "job_dead", "job_failed")
    assert len(evidence.of("job_completed")) == len(runs)
