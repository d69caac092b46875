"""A process that hears every event of the fleet and writes it down, as a line of JSON each.

``python -m workers.demo.listener EVENTS`` creates ``EVENTS`` when it listens to every kind, and
ends on SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import msgspec

from quiv_dist import Event, Quiv
from workers.demo.records import Heard


def main() -> None:
    """Listen until told to end."""
    path = Path(sys.argv[1])
    # Blocked before any thread is started, they wait for sigwait, which misses none.
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    # It has its final name only when nothing can be missed any more.
    unready = path.with_name(f"{path.name}.unready")
    with unready.open("ab", buffering=0) as events:

        def write(event: Event, *payload: object) -> None:
            named = {type(value).__name__.lower(): value for value in payload}
            line = Heard(event=event, heard_ms=time.time_ns() // 1_000_000, **named)  # type: ignore[arg-type]
            events.write(msgspec.json.encode(line) + b"\n")

        quiv = Quiv(roles={"listener"})
        for kind in Event:
            quiv.add_listener(kind, write)
        unready.rename(path)
        signal.sigwait(ending)
        quiv.shutdown()


if __name__ == "__main__":
    main()
