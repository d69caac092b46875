"""A server that closes a connection under a write is away, whichever loop says so."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from quiv_dist.config import Settings
from quiv_dist.exceptions import RedisUnavailableError
from quiv_dist.store.connection import execute, open_client, until_answered


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("retried", [True, False])
def test_a_write_to_a_closed_connection_is_retried_as_any_lost_one(
    redis_url: str, loop: object, retried: bool
) -> None:
    async def main() -> None:
        client = open_client(redis_url, Settings())
        pool = client.connection_pool
        connection = await pool.get_connection()
        await pool.release(connection)
        broken = type(connection).can_read

        async def closes_after(self: object, *args: object, **kwargs: object) -> bool:
            # The look finds it alive; then it is closed under the write.
            alive: bool = await broken(self, *args, **kwargs)
            connection._writer.transport.abort()
            await asyncio.sleep(0)
            connection.can_read = broken.__get__(connection)
            return alive

        connection.can_read = closes_after.__get__(connection)
        limit_s = 5.0 if retried else 0.001
        call = until_answered(lambda: execute(client, "PING"), Settings(), redis_url, limit_s)
        if retried:
            assert await call == b"PONG"
        else:
            with pytest.raises(RedisUnavailableError):
                await call
        await client.aclose()

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(main())
