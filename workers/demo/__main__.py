"""``python -m workers.demo``: exit code 0 when every promise was kept."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from quiv_dist import Quiv, QuivError
from workers.demo.audit import Report
from workers.demo.estate import Estate
from workers.demo.fleet import DemoError, Fleet
from workers.demo.play import Play
from workers.demo.screen import Screen, screen, table

NAMESPACE = "demo"
SOCKET = Path(".quiv", "valkey.sock")


def main() -> int:
    """Run the demonstration; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the fleet works")
    seconds = parser.parse_args().seconds
    # A terminal that is closed, or a timeout around this, ends it as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with screen() as shown:
        try:
            report, drains = _perform(shown, seconds)
        except KeyboardInterrupt:
            shown.tell("interrupted; everything was ended")
            return 130
        except (DemoError, QuivError) as error:
            shown.tell(f"the demonstration failed: {error}")
            return 1
    kept = report.sound and all(how == "exit 0" for how in drains.values())
    print(f"\n{table(report, drains)}\n")
    print(_verdict(report, kept=kept))
    return 0 if kept else 1


def _perform(shown: Screen, seconds: float) -> tuple[Report, dict[str, str]]:
    # Short, because a Unix socket's path must be.
    directory = Path(tempfile.mkdtemp(prefix="quiv-demo-"))
    # An instance without a URL shares the server of its working directory, started by the first
    # one and gone with the last.
    os.chdir(directory)
    for variable in [variable for variable in os.environ if variable.startswith("QUIV_")]:
        del os.environ[variable]
    logging.getLogger("Quiv").setLevel(logging.ERROR)
    quiv = Quiv(namespace=NAMESPACE, roles={"listener"})
    keep = False
    try:
        quiv.get_all_tasks()
        shown.tell("an embedded Valkey server is up: a Unix socket, the append-only file on")
        with Estate(directory) as estate:
            environment = {
                "QUIV_REDIS_URL": f"unix://{directory / SOCKET}",
                "QUIV_NAMESPACE": NAMESPACE,
                "HOUSEKEEPING_CONFIG": str(estate.config),
                "HOUSEKEEPING_LEDGER": str(directory / "ledger.jsonl"),
            }
            with Fleet(directory, environment) as fleet:
                play = Play(quiv, fleet, estate, shown, directory, seconds)
                report = play.perform()
                keep = not report.sound
    except (DemoError, QuivError):
        keep = True
        raise
    finally:
        quiv.shutdown()
        os.chdir("/")
        if keep:
            shown.tell(f"logs, events and ledger are kept in {directory}")
        else:
            _remove(directory)
    return report, play.drains


def _remove(directory: Path) -> None:
    """See the server end, and remove what was written."""
    deadline_s = time.monotonic() + 10
    while (directory / SOCKET).exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    # Without its socket it still writes its last lines, perhaps while they are being removed.
    while directory.exists() and time.monotonic() < deadline_s:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.02)


def _verdict(report: Report, *, kept: bool) -> str:
    if kept:
        return f"{report.due} ticks due, none lost, none doubled."
    reasons = {
        "ticks were lost": report.lost,
        "ticks were doubled": report.doubled,
        "runs have no outcome": report.unfinished,
        "events were lost, so this cannot be judged": report.unheard,
        "jobs completed that no handler ended": report.unproved,
        "nothing was due": not report.due,
    }
    found = [reason for reason, why in reasons.items() if why]
    return f"NOT KEPT: {', '.join(found) or 'a process did not drain'}."


if __name__ == "__main__":
    sys.exit(main())
