"""A namespace with a virtual clock, watched whole; and what every test of the store must leave."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from quiv_dist.config import Settings
from quiv_dist.store.keys import CATALOGUE
from quiv_dist.store.namespace import Store
from tests.store.build import T0
from tests.store.state import World

SETTINGS = Settings(pending_idle_ms=0, history_retention_ms=60_000, log_retention_ms=600_000)
HOUR_MS = 3_600_000

# What stays when all tasks, jobs and nodes of a namespace have gone. All else empties itself.
LASTING = {"meta", "epoch", "leader", "queues", "log", "logstate", "dead", "malformed"}
# What ends by its own expiry.
EXPIRING = ("call:", "spent:")


@pytest.fixture
async def world(redis_url: str, namespace: str) -> AsyncIterator[World]:
    store = Store(redis_url, namespace, SETTINGS, virtual_ms=T0)
    async with Redis.from_url(redis_url, protocol=2) as client:
        found = World(store, client, namespace, T0)
        await found.open()
        yield found
        await in_catalogue(found)
        await wind_down(found)
        await only_lasting(found)
        await found.close()


async def in_catalogue(world: World) -> None:
    """Every key is catalogued with its type, and expires if and only if it should."""
    for name, kind in (await world.names()).items():
        entry = world.keys.entry_of(world.keys.key(name))
        assert entry in CATALOGUE, f"{name} is not in the catalogue"
        assert entry.type == kind, f"{name} is a {kind}"
        ttl_ms = await world.command("PTTL", world.keys.key(name))
        assert (ttl_ms > 0) == name.startswith(EXPIRING), f"{name} expires in {ttl_ms} ms"


async def wind_down(world: World) -> None:
    """End everything as a fleet that closes down would: by the typed calls alone."""
    partition, reads = world.partition, world.reads
    for task_id in await reads.task_ids():
        await partition.remove_task(task_id, call="")
    await world.after(HOUR_MS)
    holder = (await partition.elect("sweeper", lease_ms=5000)).holder
    _, nodes = await partition.survey_nodes()
    for row in nodes:
        await partition.reclaim(holder, row.node_id)
    for job_id in await reads.job_ids(newest_first=False):
        await partition.cancel(job_id, call="")
    for row in nodes:
        assert await partition.retire_node(row.node_id, holder=holder) == "OK"
    await world.after(HOUR_MS)
    assert await partition.audit(holder, await reads.task_ids()) == []
    while await partition.purge(holder):
        pass


async def only_lasting(world: World) -> None:
    """Nothing is left of tasks, jobs and nodes: no record, index, lease, entry or pending one."""
    dead = {f"job:{job_id}" for job_id in await world.reads.dead_ids()}
    left = {
        name.split("[")[0].split(".")[0]
        for name, value in (await world.dump()).items()
        if value != "stream" and not name.startswith(EXPIRING)
        and not (name.startswith("jobs[") and f"job:{name[5:-1]}" in dead)
    }  # fmt: skip
    assert left <= LASTING | dead
