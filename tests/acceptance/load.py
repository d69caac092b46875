"""Work for a fleet, and waiting for who leads it."""

from __future__ import annotations

from quiv_dist.core.wire import Envelope
from tests.acceptance import fleet_app
from tests.acceptance.budgets import AFTER_SPLIT_S
from tests.fleet import Fleet


async def add_tasks(fleet: Fleet, count: int) -> None:
    """Add tasks that run every second, spread so that one is due at every moment; some are crons."""
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
