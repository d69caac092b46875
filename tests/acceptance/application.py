"""An application that embeds all roles, as a web process does, until SIGTERM.

With `pin` it also adds a task whose handler only this process has.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal

from tests.acceptance.fleet_app import hold, quiv


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    quiv.configure(redis_url=arguments.redis_url, namespace=arguments.namespace)
    await quiv.start()
    if arguments.pin:
        await quiv.add_task("pinned", lambda stop_event: hold(60.0, stop_event), interval=1.0)
    await stop.wait()
    await quiv.shutdown(timeout=5.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-u", "--redis-url", required=True)
    parser.add_argument("-n", "--namespace", required=True)
    parser.add_argument("--pin", action="store_true")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
