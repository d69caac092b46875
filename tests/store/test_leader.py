"""The leader lease: elect, renew_leader, resign."""

from __future__ import annotations

from typing import Any

from quiv_dist.core.leases import epoch_of
from tests.store.build import T0, lead, node
from tests.store.state import World


async def test_a_free_lease_is_taken(world: World) -> None:
    await node(world, "L")
    done = await world.act(world.partition.elect("L", lease_ms=5000))

    reply = done.result
    assert (reply.held, reply.holder) == (True, f"L|{T0}")
    assert (reply.until_ms, reply.server_ms) == (T0 + 5000, T0)
    assert done.changes == {
        "leader.holder": (None, f"L|{T0}"),
        "leader.until": (None, str(T0 + 5000)),
        "leader.since": (None, str(T0)),
        "epoch": (None, str(T0)),
    }
    (event,) = done.events
    assert (event.type, event.epoch) == ("leader_elected", T0)
    assert event.node is not None
    assert event.node.id == "L"


async def test_a_held_lease_is_refused(world: World) -> None:
    holder = await lead(world)
    await world.after(4999)
    for gone in ("", "L|1", "X|9"):
        reply = await world.nothing(world.partition.elect("M", lease_ms=5000, gone=gone))
        assert (reply.held, reply.holder, reply.until_ms) == (False, holder, T0 + 5000)


async def test_a_lease_that_is_over_is_taken_with_a_higher_epoch(world: World) -> None:
    await lead(world)
    await world.after(5000)
    done = await world.act(world.partition.elect("M", lease_ms=5000))
    assert done.result.holder == f"M|{T0 + 5000}"
    assert done.kinds == ["leader_lost", "leader_elected"]
    assert done.events[0].epoch == T0


async def test_epochs_rise_within_a_millisecond_and_over_a_clock_that_steps_back(
    world: World,
) -> None:
    epochs = []
    for step in (0, 0, -60_000, 0):
        await world.after(step)
        holder = await lead(world)
        epochs.append(epoch_of(holder))
        await world.partition.resign(holder)
    assert epochs == [T0, T0 + 1, T0 + 2, T0 + 3]


async def test_a_rolled_back_server_reuses_no_epoch(world: World) -> None:
    """What a failover lost is below the time at which it is missed."""
    await lead(world)
    await world.command("DEL", world.keys.key("leader"), world.keys.key("epoch"))
    await world.after(1)
    assert epoch_of(await lead(world, "M")) > T0


async def test_a_holder_that_is_gone_is_deposed_by_its_exact_lease(world: World) -> None:
    holder = await lead(world)
    await world.after(100)
    done = await world.act(world.partition.elect("M", lease_ms=5000, gone=holder))
    assert done.result.held
    assert done.kinds == ["leader_lost", "leader_elected"]
    assert done.changes["leader.taken_over"] == (None, str(T0 + 100))


async def test_a_lease_is_deposed_at_most_once_a_lease_period(world: World) -> None:
    holder = await lead(world)
    second = (await world.partition.elect("M", lease_ms=5000, gone=holder)).holder
    await world.after(4999)
    await world.partition.renew_leader(second, lease_ms=5000)
    again = world.partition.elect("L", lease_ms=5000, gone=second)
    assert (await world.nothing(again)).held is False
    await world.after(1)
    assert (await world.partition.elect("L", lease_ms=5000, gone=second)).held


async def test_a_node_that_lost_its_reply_gets_a_term_of_its_own(world: World) -> None:
    first = await lead(world)
    again = await world.partition.elect("L", lease_ms=5000)
    assert again.held
    assert epoch_of(again.holder) > epoch_of(first)
    assert (await world.nothing(world.partition.renew_leader(first, lease_ms=5000))).held is False


async def test_a_lease_is_renewed_by_its_holder_only(world: World) -> None:
    holder = await lead(world)
    await world.after(3000)
    done = await world.act(world.partition.renew_leader(holder, lease_ms=5000))
    assert (done.result.held, done.result.until_ms) == (True, T0 + 8000)
    assert done.changes == {"leader.until": (str(T0 + 5000), str(T0 + 8000))}
    assert done.kinds == []
    for other in ("L|1", f"M|{T0}", ""):
        reply = await world.nothing(world.partition.renew_leader(other, lease_ms=5000))
        assert (reply.held, reply.holder, reply.until_ms) == (False, holder, T0 + 8000)


async def test_nobody_leads_a_namespace_without_a_lease(world: World) -> None:
    reply = await world.nothing(world.partition.renew_leader("L|1", lease_ms=5000))
    assert (reply.held, reply.holder, reply.until_ms) == (False, "", 0)


async def test_resigning_frees_the_lease_and_tells_the_standbys(world: World) -> None:
    holder = await lead(world)
    pubsub: Any = world.client.pubsub()
    await pubsub.subscribe(world.keys.leadership_channel)
    await pubsub.get_message(timeout=None)
    done = await world.act(world.partition.resign(holder))

    assert done.result is True
    assert done.touched() == {"leader"}
    assert (done.kinds, done.events[0].epoch) == (["leader_lost"], T0)
    assert (await pubsub.get_message(timeout=None))["data"] == b"free"
    await pubsub.aclose()
    assert await world.nothing(world.partition.resign(holder)) is False


async def test_only_the_holder_resigns(world: World) -> None:
    await lead(world)
    assert await world.nothing(world.partition.resign("L|1")) is False
