"""A fleet in one file, to copy and change.

``python -m workers.quickstart`` runs all of it in one process, any number of times at once:
each tick still runs once. ``quiv up workers.quickstart`` gives it processes of its own.
"""

from __future__ import annotations

import signal
from contextlib import suppress

from quiv_dist import Quiv

quiv = Quiv()


@quiv.task(interval=2)
async def heartbeat() -> None:
    """Run every two seconds, somewhere in the fleet."""
    print("still here", flush=True)


@quiv.task(cron="0 9 * * mon-fri", cron_timezone="Europe/Paris", max_retries=3)
def report() -> None:
    """Run on weekdays at nine in Paris, also on the days the clocks change."""
    print("good morning", flush=True)


@quiv.handler()
def resize(name: str, width: int) -> str:
    """Run once for each submission; the submitter may wait for what it returns."""
    return f"{name} is {width} pixels wide"


if __name__ == "__main__":
    quiv.start()
    print(resize.submit("logo.png", width=64).result(timeout=30), flush=True)
    with suppress(KeyboardInterrupt):
        signal.pause()
    quiv.shutdown()
