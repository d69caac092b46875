"""Run a process of the fleet until SIGTERM: `role.py scheduler|worker|application [flags]`.

An application runs all roles, and adds a task whose handler only itself has.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal

from quiv_dist.runtime.engine import ROLES
from quiv_dist.worker.worker import WorkerOptions
from tests.acceptance.fleet_app import hold, quiv


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    application = arguments.role == "application"
    quiv.configure(
        redis_url=arguments.redis_url,
        namespace=arguments.namespace,
        roles=frozenset(ROLES) if application else frozenset({arguments.role}),
        worker=WorkerOptions(
            queues=tuple(arguments.queues.split(",")),
            concurrency=arguments.concurrency,
            threads=arguments.threads,
        ),
    )
    await quiv.start()
    if application:
        await quiv.add_task("pinned", lambda stop_event: hold(60.0, stop_event), interval=1.0)
    await stop.wait()
    await quiv.shutdown(timeout=arguments.shutdown_timeout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["scheduler", "worker", "application"])
    parser.add_argument("-u", "--redis-url", required=True)
    parser.add_argument("-n", "--namespace", required=True)
    parser.add_argument("-Q", "--queues", default="default")
    parser.add_argument("-c", "--concurrency", type=int, default=100)
    parser.add_argument("--threads", type=int, default=10)
    parser.add_argument("--shutdown-timeout", type=float, default=25.0)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
