"""Bringing a fleet to rest, and judging what it did."""

from __future__ import annotations

import re

from quiv_dist.config import Settings
from quiv_dist.store.keys import Keys
from tests.chaos.evidence import Evidence, State, read_ledger, read_state
from tests.chaos.invariants import violations
from tests.chaos.raw import raw
from tests.fleet import Fleet, until

REST_S = 40.0


async def busy_with(url: str, namespace: str) -> list[str]:
    """Return what a namespace still has to do: entries, leases, live runs, waiting retries."""
    prefix = Keys(namespace).prefix
    found: list[str] = []
    async with raw(url) as client:
        for pattern, size in (("q:*", client.xlen), ("leases:*", client.zcard)):
            names = [name async for name in client.scan_iter(match=prefix + pattern, count=1000)]
            found += [name.decode() for name in names if await size(name)]
        found += [name.decode() async for name in client.scan_iter(match=f"{prefix}live:*")]
        due = await client.zrange(f"{prefix}due", 0, -1)
        found += [member.decode() for member in due if member.startswith(b"r:")]
        found += [name.decode() for name in await client.keys(f"{prefix}parked:*")]
    return found


async def come_to_rest(fleet: Fleet) -> State:
    """Pause every task, wait until nothing is left to do, and read the stored state."""
    for task in await fleet.client.get_all_tasks(include_run_once=True):
        if task.status != "paused" and not task.run_once:
            await fleet.client.pause_task(task.id)
    left: list[str] = []

    async def rests() -> bool:
        left[:] = await busy_with(fleet.url, fleet.namespace)
        return not left

    try:
        await until(rests, timeout_s=REST_S, what="the fleet comes to rest", look_s=0.2)
    except AssertionError as error:
        error.add_note(f"left: {left[:20]}")
        raise
    await fleet.tape.drained()
    return await read_state(fleet.url, fleet.namespace)


# What a process says when it finds its own state wrong. Nothing that is done to it excuses these.
_ADMISSIONS = re.compile(
    r"CRITICAL|a pass failed|already covered|audit: |clock of the Redis server moved"
    r"|The end of job .* could not be taken|failed outside of a handler|never retrieved"
)


def complaints(fleet: Fleet) -> list[str]:
    """Return processes that ended by themselves, and lines of logs that admit a fault."""
    found = [
        f"{member.name} ended with {member.returncode}:\n{member.tail(1000)}"
        for member in fleet.members
        if not member.alive and member.returncode not in member.may_end_with
    ]
    for name, text in fleet.logs():
        found += [f"{name}: {line}" for line in text.splitlines() if _ADMISSIONS.search(line)]
    return found


async def judge(
    fleet: Fleet,
    *,
    outages_ms: list[tuple[int, int]] | None = None,
    accepted: set[str] | None = None,
) -> Evidence:
    """Bring the fleet to rest, fail with everything that breaks an invariant, else the evidence."""
    state = await come_to_rest(fleet)
    evidence = Evidence(
        events=list(fleet.tape.events),
        state=state,
        ledger=read_ledger(fleet.ledger),
        pids={
            event.node.id: event.node.pid
            for event in fleet.tape.of("node_joined")
            if event.node is not None
        },
        lease_ms=Settings().leader_lease_ms,
        disturbed=set(fleet.disturbed),
        outages_ms=outages_ms or [],
        accepted=accepted or set(),
    )
    found = [*violations(evidence), *complaints(fleet)]
    if found:
        (fleet.directory / "events.jsonl").write_bytes(fleet.tape.dump())
        raise AssertionError("\n".join([*found, f"evidence: {fleet.directory}"]))
    return evidence
