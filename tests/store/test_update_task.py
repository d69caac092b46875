from __future__ import annotations

from typing import Any

from quiv_dist.store.records import NOW, NextTick, TaskReply
from tests.store.build import T0, claim, definition, due, end, fire, lead, node, put, read, tick
from tests.store.state import World


async def update(
    world: World, move: NextTick | None = None, call: str = "", **changes: Any
) -> TaskReply:
    row = await read(world)
    changes.setdefault("static", b'"id":"T","task_name":"Tidy","args":[],"kwargs":{}')
    return await world.partition.update_task("T", row, definition(**changes), move, call=call)


async def test_fields_change_and_the_next_tick_stays(world: World) -> None:
    await put(world)
    done = await world.act(update(world, handler="app:other", call="c"))

    assert done.result.word == "OK"
    assert done.changes == {
        "task:T.rev": ("1", "2"),
        "task:T.handler": ("app:tidy", "app:other"),
        "task:T.fingerprint": done.changes["task:T.fingerprint"],
        "call:c:update:T": (None, "OK"),
    }
    (event,) = done.events
    assert (event.type, event.call, event.task) == ("task_updated", "c", done.result.task)


async def test_the_next_tick_moves(world: World) -> None:
    await put(world)
    done = await world.act(update(world, tick(T0 + 7000)))

    moved = (str(T0 + 1000), str(T0 + 7000))
    assert {name: pair for name, pair in done.changes.items() if pair == moved} == {
        "task:T.anchor": moved, "task:T.due": moved, "task:T.next": moved, "task:T.nominal": moved,
    }  # fmt: skip
    assert done.changes["due[t:T]"] == (T0 + 1000, T0 + 7000)


async def test_a_paused_task_remembers_its_next_tick_without_being_armed(world: World) -> None:
    await put(world)
    await world.partition.pause_task("T", reason="r", actor="a", call="")
    done = await world.act(update(world, tick(T0 + 7000)))

    assert done.result.task is not None
    assert (done.result.task.status, done.result.task.next_run_at_ms) == ("paused", T0 + 7000)
    assert not any(name.startswith("due[") for name in done.changes)


async def test_moving_a_task_to_now_never_arms_a_covered_time(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    assert (await update(world, NOW)).word == "OK"
    assert (await read(world)).due_ms == T0 + 1001


async def test_a_run_time_given_while_the_task_runs_is_kept(world: World) -> None:
    await put(world, mode="once")
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder, next_ms=None)
    (job,) = await claim(world)
    await update(world, tick(T0 + 9000), mode="once")
    done = await world.act(world.partition.finish("W", [end(job)]))

    assert done.kinds == ["job_completed"]
    await world.at(T0 + 9000)
    assert [item.member for item in await due(world)] == ["t:T"]


async def test_a_pin_follows_the_definition(world: World) -> None:
    await put(world, pinned="N1")
    done = await world.act(update(world, pinned="N2"))
    assert done.changes["pinned:N1[T]"] == (True, None)
    assert done.changes["pinned:N2[T]"] == (None, True)


async def test_it_is_stale_after_another_write(world: World) -> None:
    await put(world)
    row = await read(world)
    for stale in (row._replace(revision="9"), row._replace(due_ms=1), row._replace(due_ms=-1)):
        reply = await world.nothing(
            world.partition.update_task("T", stale, definition(name="X"), None, call="c")
        )
        assert (reply.word, reply.task) == ("STALE", row.wire)


async def test_it_is_stale_when_the_time_is_covered(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    row = await read(world)
    reply = await world.nothing(
        world.partition.update_task("T", row, definition(), tick(T0 + 1000), call="c")
    )
    assert reply.word == "STALE"


async def test_an_unknown_task_is_gone(world: World) -> None:
    await put(world)
    row = await read(world)
    reply = await world.nothing(
        world.partition.update_task("other", row, definition(), None, call="c")
    )
    assert (reply.word, reply.task) == ("GONE", None)


async def test_sent_again_it_changes_nothing_more(world: World) -> None:
    await put(world)
    row = await read(world)
    for first in (True, False):
        sent = world.partition.update_task(
            "T", row, definition(name="X"), tick(T0 + 3000), call="c"
        )
        reply = await sent if first else await world.nothing(sent)
        assert reply.word == "OK"
