"""Nodes come and go: register_node, survey_nodes, retire_node, recover_pending."""

from __future__ import annotations

import pytest

from quiv_dist.exceptions import LeadershipLostError
from tests.store.build import T0, claim, end, fire, lead, node, put, running, submitted
from tests.store.state import World

STREAMS = [("default", "normal")]


async def consumers(world: World) -> set[str]:
    found = await world.command(
        "XINFO", "CONSUMERS", world.keys.stream("default", "normal"), "workers"
    )
    return {about[1].decode() for about in found}


async def handed_over(world: World, *numbers: int) -> None:
    """A blocking read brings the node `W` submissions that it never claims."""
    await node(world)
    await world.reads.create_groups(STREAMS)
    for number in numbers:
        await submitted(world, number)
        assert len(await world.reads.wait_for_entry("W", STREAMS, 100)) == 1


# register_node ----------------------------------------------------------------------------------


async def test_a_node_announces_itself_and_what_it_serves(world: World) -> None:
    done = await world.act(node(world))

    assert done.changes == {
        "node:W.json": (None, '{"id":"W"}'),
        "node:W.renewed": (None, str(T0)),
        "nodes[W]": (None, T0 + 15_000),
        "handlers:W[app:tidy]": (None, True),
        "serves:default|app:tidy[W]": (None, True),
        "places:W[default|app:tidy]": (None, True),
        "queues[default]": (None, True),
        "meta.worker_joined": (None, str(T0)),
    }
    (event,) = done.events
    assert event.type == "node_joined"
    assert event.node is not None
    assert event.node.id == "W"


async def test_announcing_again_is_no_event(world: World) -> None:
    await node(world)
    await world.nothing(node(world))


async def test_a_listener_serves_no_queue(world: World) -> None:
    done = await world.act(
        world.partition.register_node("N", b'{"id":"N"}', worker=False, queues=[], handlers=[])
    )
    assert done.touched() == {"node:N", "nodes"}
    assert done.result == world.store.incarnation


async def test_the_janitor_sees_nodes_with_their_leases(world: World) -> None:
    await running(world)
    now_ms, (row,) = await world.partition.survey_nodes()
    assert (now_ms, row.node_id, row.renewed, row.jobs) == (T0, "W", str(T0), 1)
    assert (row.lease_end_ms, row.first_job_lease_end_ms) == (T0 + 15_000, T0 + 15_000)
    assert row.wire.id == "W"


# retire_node ------------------------------------------------------------------------------------


async def test_a_node_takes_itself_out(world: World) -> None:
    await node(world)
    await claim(world)
    done = await world.act(world.partition.retire_node("W"))

    assert done.result == "OK"
    assert done.touched() == {
        "node:W", "nodes", "handlers:W", "serves:default|app:tidy", "places:W",
    }  # fmt: skip
    assert all(new is None for _, new in done.changes.values())
    assert done.kinds == ["node_left"]
    assert await consumers(world) == set()
    assert await world.nothing(world.partition.retire_node("W")) == "OK"


async def test_what_it_was_handed_and_never_claimed_goes_back(world: World) -> None:
    await handed_over(world, 1, 2)
    done = await world.act(world.partition.retire_node("W"))
    assert done.result == "OK"
    assert done.kinds == ["node_left"]
    assert await consumers(world) == set()
    await node(world, "X")
    assert [(job.job_id, job.delivery) for job in await claim(world, "X")] == [
        ("job-1", 1), ("job-2", 1),
    ]  # fmt: skip


async def test_a_node_with_leased_jobs_is_busy(world: World) -> None:
    job = await running(world)
    assert await world.nothing(world.partition.retire_node("W")) == "BUSY"
    await world.after(60_000)
    holder = await lead(world)
    assert await world.nothing(world.partition.retire_node("W", holder=holder)) == "BUSY"
    await world.partition.finish("W", [end(job)])
    assert await world.partition.retire_node("W", holder=holder) == "OK"


async def test_a_leader_takes_out_only_the_dead(world: World) -> None:
    await node(world)
    holder = await lead(world)
    assert await world.nothing(world.partition.retire_node("W", holder=holder)) == "ALIVE"
    await world.after(14_999)
    assert await world.nothing(world.partition.retire_node("W", holder=holder)) == "ALIVE"
    await world.after(1)
    assert await world.partition.retire_node("W", holder=holder) == "OK"


async def test_only_the_leader_takes_others_out(world: World) -> None:
    await node(world)
    old = await lead(world)
    await world.after(60_000)
    await lead(world, "M")
    with pytest.raises(LeadershipLostError):
        await world.nothing(world.partition.retire_node("W", holder=old))


async def pinned_run(world: World) -> str:
    """A task pinned to `P` with a queued run in that node's own queue; the leader's holder."""
    await world.partition.register_node(
        "P", b'{"id":"P"}', worker=True, queues=["@P"], handlers=["app:tidy"]
    )
    await put(world, pinned="P", queue="@P")
    holder = await lead(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    return holder


async def test_what_is_pinned_to_a_node_goes_with_it(world: World) -> None:
    await pinned_run(world)
    done = await world.act(world.partition.retire_node("P"))
    assert done.kinds == ["task_removed", "job_cancelled", "node_left"]
    names = await world.names()
    assert not [name for name in names if "@P" in name or name.startswith(("pinned", "task"))]


async def test_what_is_pinned_to_a_dead_node_waits_for_its_grace(world: World) -> None:
    holder = await pinned_run(world)
    await world.at(T0 + 15_000)
    assert (await world.act(world.partition.retire_node("P", holder=holder))).kinds == ["node_left"]
    assert "task:T.rev" in await world.dump()
    await world.at(T0 + 15_000 + 299_999)
    assert await world.nothing(world.partition.retire_node("P", holder=holder)) == "OK"
    await world.at(T0 + 15_000 + 300_000)
    done = await world.act(world.partition.retire_node("P", holder=holder))
    assert done.kinds == ["task_removed", "job_cancelled"]


async def test_a_task_pinned_anew_elsewhere_stays(world: World) -> None:
    await pinned_run(world)
    await world.command("HSET", world.keys.key("task:T"), "pinned", "Q")
    await world.command("SADD", world.keys.key("pinned:Q"), "T")
    done = await world.act(world.partition.retire_node("P"))
    assert "task_removed" not in done.kinds
    assert "job_cancelled" in done.kinds  # nobody else reads the node's own queue
    assert "task:T" not in done.touched()


# recover_pending --------------------------------------------------------------------------------


async def test_what_was_handed_over_and_never_claimed_is_put_back(world: World) -> None:
    await handed_over(world, 1)
    holder = await lead(world)
    done = await world.act(world.partition.recover_pending(holder, "default", "normal"))

    assert done.result == ["job-1"]
    assert done.changes == {
        "job:job-1.entry": ("e1", "e2"),
        "job:job-1.node": (None, ""),
        "job:job-1.crashes": (None, "0"),
        "q:default:normal[e1]": ({"j": "job-1"}, None),
        "q:default:normal[e1].pending": ("W", None),
        "q:default:normal[e2]": (None, {"j": "job-1"}),
    }
    assert done.kinds == []
    again = world.partition.recover_pending(holder, "default", "normal")
    assert await world.nothing(again) == []


async def test_running_jobs_hide_nothing_and_are_left(world: World) -> None:
    await node(world)
    await submitted(world, *range(100, 400))
    assert len(await claim(world, slots=300)) == 300
    await handed_over(world, 1)
    holder = await lead(world)
    assert await world.partition.recover_pending(holder, "default", "normal") == ["job-1"]
    await world.after(15_000)
    while await world.partition.reclaim(holder, "W"):
        pass


async def test_garbage_handed_over_is_kept(world: World) -> None:
    await node(world)
    await world.reads.create_groups(STREAMS)
    stream = world.keys.stream("default", "normal")
    await world.command("XADD", stream, "*", "a", b"\xff")
    await world.reads.wait_for_entry("W", STREAMS, 100)
    holder = await lead(world)
    assert await world.partition.recover_pending(holder, "default", "normal") == []
    (kept,) = await world.reads.malformed()
    assert kept.fields == [b"a", b"\xff"]


async def test_a_stream_without_a_group_has_nothing_pending(world: World) -> None:
    holder = await lead(world)
    assert await world.nothing(world.partition.recover_pending(holder, "none", "low")) == []


async def test_only_the_leader_puts_back(world: World) -> None:
    await handed_over(world, 1)
    old = await lead(world)
    await world.after(6000)
    await lead(world, "M")
    with pytest.raises(LeadershipLostError):
        await world.nothing(world.partition.recover_pending(old, "default", "normal"))
