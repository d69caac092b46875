"""Waiting until kinds of events are followed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from quiv_dist.exceptions import RedisUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


class CoverWaiters:
    """Those who wait until some kinds are followed, each for its own."""

    def __init__(self) -> None:
        self._waiting: list[tuple[frozenset[str], asyncio.Future[None]]] = []

    async def wait(self, kinds: frozenset[str], timeout_s: float) -> None:
        """Wait until all of these kinds are followed.

        Raises:
            RedisUnavailableError: they were not within ``timeout_s``.
        """
        future = asyncio.get_running_loop().create_future()
        waiter = (kinds, future)
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError as error:
            raise RedisUnavailableError(
                f"Redis gave no answer to the subscription to {', '.join(sorted(kinds))} in"
                f" {timeout_s:g} s; it is made when Redis answers"
            ) from error
        finally:
            self._waiting.remove(waiter)

    def settle(self, is_covered: Callable[[str], bool]) -> None:
        """End the waits that are over."""
        for kinds, future in self._waiting:
            if not future.done() and all(is_covered(kind) for kind in kinds):
                future.set_result(None)

    def fail(self, error: Exception) -> None:
        """Raise an error where somebody waits."""
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(error)
