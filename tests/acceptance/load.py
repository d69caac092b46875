"""Work for a fleet, and waiting for who leads it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from quiv_dist.core.wire import Envelope
from quiv_dist.exceptions import RedisUnavailableError
from tests.acceptance import fleet_app
from tests.acceptance.budgets import AFTER_SPLIT_S
from tests.fleet import Fleet


async def add_tasks(fleet: Fleet, count: int) -> None:
    """Add tasks that run every second, one due at every moment; some are crons."""
    for number in range(count):
        name = f"each-second-{number}"
        if number % 5 == 0:
            await fleet.client.add_task(name, fleet_app.tick, cron="* * * * * *")
        else:
            await fleet.client.add_task(name, fleet_app.tick, interval=1.0, delay=number / count)


def is_tick(event: Envelope) -> bool:
    return event.type == "job_scheduled" and event.job is not None and event.job.run_kind == "tick"


async def steady(fleet: Fleet, after_epoch: int) -> tuple[Envelope, Envelope]:
    """Wait for a later term, its first dispatch, and a second of dispatching; return both."""
    tape = fleet.tape
    elected = await tape.first(
        lambda event: event.type == "leader_elected" and (event.epoch or 0) > after_epoch,
        timeout_s=3 * AFTER_SPLIT_S,
        what=f"a leader after epoch {after_epoch}",
    )
    since = tape.events.index(elected)
    first = await tape.first(is_tick, timeout_s=10, what="its first dispatch", since=since)
    await tape.first(
        lambda event: is_tick(event) and event.at_ms > elected.at_ms + 1000,
        timeout_s=10,
        what="a second of dispatching",
        since=since,
    )
    return elected, first


class Submissions:
    """A stream of submissions, and the runs that the client was told are stored."""

    def __init__(self, fleet: Fleet, *, pause_s: float = 0.05, fails: bool = True) -> None:
        self._fails = fails
        self.accepted: set[str] = set()
        self.refused = 0
        self._fleet = fleet
        self._pause_s = pause_s
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._submit())

    async def _submit(self) -> None:
        client = self._fleet.client
        retried = client.handler(max_crashes=20, max_retries=1, retry_backoff=0.3)
        kinds: list[tuple[Any, float]] = [
            (client.handler(max_crashes=20)(fleet_app.stubborn), 0.05),
            (client.handler(max_crashes=20)(fleet_app.hold), 2.0),
            (client.handler(max_crashes=20)(fleet_app.stubborn), 0.5),
        ]
        if self._fails:
            kinds.append((retried(fleet_app.fail_in), 0.02))
        number = 0
        while not self._stop.is_set():
            handler, seconds = kinds[number % len(kinds)]
            number += 1
            try:
                run = await handler.submit_async(seconds)
                self.accepted.add(run.run_id)
            except RedisUnavailableError:
                self.refused += 1  # it may be stored: nothing is claimed of it
            await asyncio.sleep(self._pause_s)

    async def end(self) -> set[str]:
        """Submit no more; return the runs that were accepted."""
        self._stop.set()
        await self._task
        return self.accepted


async def ticks_for(fleet: Fleet, seconds: float, *, timeout_s: float = 60.0) -> None:
    """Wait until ticks were dispatched for so long, from now on."""
    begin_ms = await fleet.store.now_ms()
    await fleet.tape.first(
        lambda event: is_tick(event) and event.at_ms > begin_ms + seconds * 1000,
        timeout_s=timeout_s,
        what=f"{seconds} s of ticks",
        since=len(fleet.tape.events),
    )


def wall_ms() -> int:
    return int(time.time() * 1000)
