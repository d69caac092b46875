"""Processes that live and are cut off from the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.acceptance import fleet_app
from tests.acceptance.budgets import AFTER_SPLIT_S
from tests.acceptance.load import add_tasks, steady
from tests.chaos.links import Link
from tests.chaos.verdict import judge
from tests.fleet import Fleet
from tests.servers import RedisServer

# Longer than a call is tried, shorter than a job's lease.
SPLIT_S = 7.0


@pytest.fixture
async def links() -> AsyncIterator[dict[str, Link]]:
    yield {}


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
    started: Callable[[], bool] = lambda: len(fleet.tape.of("job_started")) == len(runs)  # noqa: E731
    while not started():
        assert await fleet.tape.changed(10)
    links[worker.name].cut(replies_only=True)
    await asyncio.sleep(SPLIT_S)
    links[worker.name].heal()
    evidence = await judge(fleet, accepted={run.run_id for run in runs})
    assert not evidence.of("job_lost", "job_dead", "job_failed")
    assert len(evidence.of("job_completed")) == len(runs)
