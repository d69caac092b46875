"""Memory, keys, streams, connections and threads are flat over a long run (invariant 19)."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest

from quiv_dist.config import Settings
from quiv_dist.store.keys import Keys
from tests.acceptance.load import Submissions, add_tasks
from tests.chaos.raw import raw
from tests.conftest import OwnServer
from tests.fleet import Fleet

SOAK_S = float(os.environ.get("QUIV_SOAK_SECONDS", "180"))
# Until the history is as long as it gets and the log has met its bound.
WARM_UP_S = 45.0
SAMPLE_S = 1.0
LOG_BYTES = 1024 * 1024
MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    memory: int
    keys: int
    connections: int
    log_entries: int
    dead: int
    rss: dict[str, int]
    threads: dict[str, int]
    files: dict[str, int]


async def sample(fleet: Fleet, client: Any) -> Sample:
    keys = Keys(fleet.namespace)
    clients = await client.info("clients")
    memory = await client.info("memory")
    processes = {item.name: psutil.Process(item.pid) for item in fleet.members if item.alive}
    return Sample(
        memory=memory["used_memory"],
        keys=await client.dbsize(),
        connections=clients["connected_clients"],
        log_entries=await client.xlen(keys.key("log")),
        dead=await client.zcard(keys.key("dead")),
        rss={name: process.memory_info().rss for name, process in processes.items()},
        threads={name: process.num_threads() for name, process in processes.items()},
        files={name: process.num_fds() for name, process in processes.items()},
    )


@pytest.mark.soak
async def test_nothing_grows(own_server: OwnServer, tmp_path: Path) -> None:
    server = own_server()
    fleet = Fleet(
        server.url,
        "soak",
        tmp_path / "fleet",
        app="tests.chaos.soak_app",
        settings=Settings(log_bytes=LOG_BYTES),
    )
    async with fleet, raw(server.url) as client:
        for _ in range(2):
            await fleet.scheduler()
            await fleet.worker()
        await add_tasks(fleet, 40)
        load = Submissions(fleet, pause_s=0.05, fails=False)
        samples = await _sampled(fleet, client)
        await load.end()
    middle = len(samples) // 2
    early, late = samples[:middle], samples[middle:]
    _flat("server memory", [item.memory for item in early], [item.memory for item in late], 1.05)
    _flat("keys", [item.keys for item in early], [item.keys for item in late], 1.05)
    _flat("log", [item.log_entries for item in early], [item.log_entries for item in late], 1.05)
    assert late[-1].connections <= max(item.connections for item in early)
    for name in late[-1].rss:
        before, after = ([item.rss[name] for item in half] for half in (early, late))
        growth_mib = (median(after) - median(before)) / MIB
        print(f"{name}: rss {median(before) / MIB:.1f} MiB, {growth_mib:+.2f} MiB")
        assert growth_mib < 2, f"{name} grew by {growth_mib:.1f} MiB"
        assert late[-1].threads[name] <= max(item.threads[name] for item in early)
        assert late[-1].files[name] <= max(item.files[name] for item in early)


async def _sampled(fleet: Fleet, client: Any) -> list[Sample]:
    samples: list[Sample] = []
    begin_s = time.monotonic()
    while (at_s := time.monotonic() - begin_s) < WARM_UP_S + SOAK_S:
        # The rate of sampling, not a wait for anything.
        await asyncio.sleep(SAMPLE_S)
        if at_s > WARM_UP_S:
            samples.append(await sample(fleet, client))
    return samples


def _flat(what: str, early: list[int], late: list[int], factor: float) -> None:
    print(f"{what}: {median(early):.0f}, then {median(late):.0f}")
    assert median(late) <= median(early) * factor, f"{what} grew: {median(early)}, {median(late)}"
