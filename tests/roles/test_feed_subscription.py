"""The subscribing connection of the event feed: its reader waits for nobody, and says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from quiv_dist.events.subscription import Subscription
from quiv_dist.exceptions import RedisUnavailableError
from quiv_dist.store.channels import Channel, Message
from quiv_dist.store.namespace import Store
from tests.roles.feeds import DEADLINE_S, QUICK, producing

if TYPE_CHECKING:
    from tests.conftest import OwnServer


class CountingChannel(Channel):
    """A channel that tells how many messages have come."""

    received = 0
    _came: asyncio.Event

    async def next(self, timeout_s: float | None) -> Message | None:
        message = await super().next(timeout_s)
        if message is not None:
            self.received += 1
            self._came.set()
        return message

    async def until(self, number: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.received < number:
                self._came.clear()
                await self._came.wait()


def counting(url: str) -> CountingChannel:
    channel = CountingChannel(url, QUICK)
    channel._came = asyncio.Event()
    return channel


async def test_once_a_message_found_no_room_none_overtakes_it(
    redis_url: str, namespace: str
) -> None:
    channel = counting(redis_url)
    subscription = Subscription(channel, 3, lambda: None)
    async with producing(redis_url, namespace) as producer:
        await subscription.open([namespace])
        for number in range(5):
            await producer.command("PUBLISH", namespace, number)
        await channel.until(5)
        taken = [message.data for message in subscription.take(2)]
        # There is room again, and yet 3 and 4 come first: from the log.
        await producer.command("PUBLISH", namespace, 5)
        await channel.until(6)
        taken += [message.data for message in subscription.take(10)]
        assert taken == [b"0", b"1", b"2"]
        assert subscription.take_overflow()
        assert not subscription.take_overflow()
        await producer.command("PUBLISH", namespace, 6)
        await channel.until(7)
        assert [message.data for message in subscription.take(10)] == [b"6"]
    await subscription.close()


async def test_channels_are_added_and_dropped_while_messages_come(
    redis_url: str, namespace: str
) -> None:
    channel = counting(redis_url)
    subscription = Subscription(channel, 100, lambda: None)
    one, two = f"{namespace}-1", f"{namespace}-2"
    async with producing(redis_url, namespace) as producer:
        await subscription.open([one])
        await producer.command("PUBLISH", one, "a")
        await subscription.match({one, two})
        await producer.command("PUBLISH", two, "b")
        await channel.until(2)
        await subscription.match({two})
        await producer.command("PUBLISH", two, "c")
        await channel.until(3)
        assert subscription.names == {two}
        assert [message.data for message in subscription.take(10)] == [b"a", b"b", b"c"]
    await subscription.close()


async def test_a_connection_that_breaks_is_told_at_once_and_to_whoever_uses_it(
    own_server: OwnServer,
) -> None:
    server = own_server()
    told = asyncio.Event()
    subscription = Subscription(Store(server.url, "ns", QUICK).channel(), 100, told.set)
    await subscription.open(["one"])
    subscription.check()
    server.stop()
    async with asyncio.timeout(DEADLINE_S):
        await told.wait()
    with pytest.raises(RedisUnavailableError):
        subscription.check()
    with pytest.raises(RedisUnavailableError):
        await subscription.match({"one", "two"})
    await subscription.close()


async def test_a_probe_is_answered_again_and_again_until_the_server_does_not(
    own_server: OwnServer,
) -> None:
    server = own_server()
    subscription = Subscription(Store(server.url, "ns", QUICK).channel(), 100, lambda: None)
    await subscription.open(["one"])
    for _ in range(3):
        await subscription.probe("probe")
    server.pause()
    with pytest.raises(RedisUnavailableError):
        await subscription.probe("probe")
    server.resume()
    await subscription.close()


async def test_a_server_that_does_not_answer_fails_the_opening(own_server: OwnServer) -> None:
    server = own_server()
    subscription = Subscription(Store(server.url, "ns", QUICK).channel(), 100, lambda: None)
    server.pause()
    with pytest.raises(RedisUnavailableError):
        await subscription.open(["one"])
    await subscription.close()
    server.resume()
