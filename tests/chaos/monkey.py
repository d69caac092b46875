"""Random faults, drawn from a seed: what one seed does, it does again."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from quiv_dist.exceptions import QuivError
from tests.acceptance.load import wall_ms
from tests.chaos.links import Link
from tests.chaos.raw import raw
from tests.fleet import Fleet, Member, skewed
from tests.servers import RedisServer

CANNOT_REACH_REDIS = 4  # exit code
ROLES = {"scheduler": 3, "worker": 3}
# After a fault, until whoever must lead does: the lease, a second, and waits between attempts.
AFTERMATH_MS = 5_000 + 1_000 + 3_000


class Monkey:
    """Breaks what it can reach, and keeps note of when nobody could have acted."""

    def __init__(self, fleet: Fleet, server: RedisServer, seed: int) -> None:
        self.outages_ms: list[tuple[int, int]] = []
        self.done: list[str] = []
        self._fleet = fleet
        self._server = server
        self._random = random.Random(seed)
        self._links: dict[str, Link] = {}
        self._stack = AsyncExitStack()
        self._healing: set[asyncio.Task[None]] = set()
        self._impaired: set[Member] = set()
        self._began_s = time.monotonic()

    def url_for(self, name: str) -> str:
        """Give a process a link of its own to the server."""
        link = Link(self._server.port)
        self._links[name] = link
        self._stack.push_async_exit(link)
        return link.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.heal()
        if error is not None:
            error.add_note("faults:\n" + "\n".join(self.done))
        await self._stack.aclose()

    async def populate(self) -> None:
        for role, count in ROLES.items():
            for _ in range(count):
                await self._fleet.joined(self._launch(role))

    async def rage(self, seconds: float) -> None:
        """Break things for so long, then mend all of them."""
        faults: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._kill, 4),
            (self._kill_the_leader, 3),
            (self._freeze, 3),
            (self._cut, 4),
            (self._drop, 3),
            (self._kill_connections, 3),
            (self._freeze_server, 1),
            (self._restart_server, 2),
            (self._deploy, 1),
            (self._pause_tasks, 3),
            (self._update_tasks, 3),
        ]
        calls, weights = zip(*faults, strict=True)
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._replenish()
            await self._random.choices(calls, weights)[0]()
            # The rate of faults, not a wait for anything.
            await asyncio.sleep(self._random.uniform(0.2, 1.2))
        await self.heal()
        self._replenish()

    async def heal(self) -> None:
        """Mend what is still broken."""
        await asyncio.gather(*self._healing)

    # Processes ------------------------------------------------------------------------------------

    def _launch(self, role: str) -> Member:
        hours = self._random.choice([0, 0, 1, -1])
        return self._fleet.launch(role, env=skewed(hours) if hours else None)

    def _replenish(self) -> None:
        """Start again, as a supervisor does, what could not reach the server when it started."""
        for member in list(self._fleet.members):
            unreached = member.returncode == CANNOT_REACH_REDIS
            if unreached and CANNOT_REACH_REDIS not in member.may_end_with:
                member.may_end_with.add(CANNOT_REACH_REDIS)
                self._note(f"start {member.name} again")
                self._launch(member.name.split("-")[0])

    def _pick(self, role: str | None = None) -> Member:
        alive = [
            item
            for item in self._fleet.members
            if item.alive and item not in self._impaired and (role is None or role in item.name)
        ]
        return self._random.choice(alive)

    def _enough(self) -> bool:
        """Whether one more process may be impaired, with one of each role left whole."""
        return len(self._impaired) < 2

    async def _kill(self) -> None:
        self._replace(self._pick(), "kill")

    async def _kill_the_leader(self) -> None:
        schedulers = [item for item in self._fleet.alive("scheduler") if item not in self._impaired]
        holder = self._fleet.tape.of("leader_elected")
        pid = holder[-1].node.pid if holder and holder[-1].node else 0
        leader = next((item for item in schedulers if item.pid == pid), None)
        if leader is not None:
            self._replace(leader, "kill the leader")

    def _replace(self, victim: Member, what: str) -> None:
        self._note(f"{what}: {victim.name}")
        self._fleet.disturb(victim).kill()
        self._launch(victim.name.split("-")[0])

    async def _freeze(self) -> None:
        if self._enough():
            victim = self._pick()
            seconds = self._random.uniform(0.5, 7.0)
            self._note(f"freeze {victim.name} for {seconds:.1f} s", seconds)
            self._fleet.disturb(victim).freeze()
            self._later(seconds, victim.thaw, victim)

    async def _cut(self) -> None:
        if self._enough():
            victim = self._pick()
            seconds = self._random.uniform(0.5, 7.0)
            self._note(f"cut {victim.name} off for {seconds:.1f} s", seconds)
            self._fleet.disturb(victim)
            self._links[victim.name].cut()
            self._later(seconds, self._links[victim.name].heal, victim)

    async def _drop(self) -> None:
        victim = self._pick()
        self._note(f"drop the connections of {victim.name}")
        self._fleet.disturb(victim)
        self._links[victim.name].drop()

    async def _deploy(self) -> None:
        """Replace every process, one after the other."""
        for victim in [item for item in self._fleet.members if item.alive]:
            leaves = 0 in victim.may_end_with
            if victim in self._impaired or leaves or not victim.alive:
                continue
            self._note(f"deploy: SIGTERM {victim.name}")
            self._launch(victim.name.split("-")[0])
            victim.terminate()
            # It may not have come to where it handles signals.
            victim.may_end_with.add(-signal.SIGTERM)
            await asyncio.sleep(self._random.uniform(0.1, 0.5))

    # Server ---------------------------------------------------------------------------------------

    async def _kill_connections(self) -> None:
        kind = self._random.choice(["normal", "pubsub"])
        self._note(f"kill all {kind} connections")
        async with raw(self._fleet.url) as client:
            await client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    async def _freeze_server(self) -> None:
        seconds = self._random.uniform(0.5, 4.0)
        self._note(f"freeze the server for {seconds:.1f} s", seconds)
        self._server.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._server.resume()

    async def _restart_server(self) -> None:
        kill = self._random.random() < 0.5
        begin_ms = wall_ms()
        self._note(f"{'crash' if kill else 'restart'} the server")
        await asyncio.to_thread(self._server.restart, kill=kill)
        self.outages_ms.append((begin_ms, wall_ms() + AFTERMATH_MS))

    # Users ----------------------------------------------------------------------------------------

    async def _pause_tasks(self) -> None:
        """Pause a few tasks, or resume those that are paused."""
        self._note("pause and resume tasks")
        client = self._fleet.client
        try:
            for task in await client.get_all_tasks():
                if self._random.random() < 0.2:
                    if task.status == "paused":
                        await client.resume_task(task.id)
                    else:
                        await client.pause_task(task.id, reason="chaos")
        except QuivError as error:
            self.done.append(f"    {type(error).__name__}: {error}")

    async def _update_tasks(self) -> None:
        """Change tasks while they fire, without moving their ticks."""
        self._note("update tasks")
        client = self._fleet.client
        try:
            for task in await client.get_all_tasks():
                if self._random.random() < 0.3:
                    await client.update_task(task.id, timeout=self._random.uniform(20.0, 30.0))
        except QuivError as error:
            self.done.append(f"    {type(error).__name__}: {error}")

    # Notes ----------------------------------------------------------------------------------------

    def _note(self, what: str, seconds: float = 0.0) -> None:
        self.done.append(f"{time.monotonic() - self._began_s:6.1f} s  {what}")
        now_ms = wall_ms()
        self.outages_ms.append((now_ms, now_ms + int(seconds * 1000) + AFTERMATH_MS))

    def _later(self, seconds: float, act: Callable[[], object], victim: Member) -> None:
        async def mend() -> None:
            await asyncio.sleep(seconds)
            self._impaired.discard(victim)
            if victim.alive:
                act()

        self._impaired.add(victim)
        task = asyncio.create_task(mend())
        self._healing.add(task)
        task.add_done_callback(self._healing.discard)
