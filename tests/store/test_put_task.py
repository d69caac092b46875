from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from quiv_dist.store.records import NOW, TaskReply
from tests.store.build import T0, claim, definition, fire, lead, node, put, read, tick
from tests.store.state import World

CREATED_FIELDS = {
    "rev": "1", "inc": "inc-1", "state": "active", "last": "0", "attempt": "0",
    "anchor": str(T0 + 1000), "nominal": str(T0 + 1000),
    "due": str(T0 + 1000), "next": str(T0 + 1000), "name": "Tidy", "handler": "app:tidy",
    "queue": "default", "prio": "normal", "trigger": "every second", "mode": "fixed",
    "every": "1000", "jitter": "0", "snap": '"id":"T","task_name":"Tidy","args":[],"kwargs":{}',
    "spec": "spec", "args": "args", "maxc": "3", "pinned": "", "fingerprint": "[]",
}  # fmt: skip


async def test_a_new_task_is_stored_and_armed(world: World) -> None:
    done = await world.act(
        world.partition.put_task(
            "T", definition(), tick(T0 + 1000), if_exists="error", read=None,
            incarnation="inc-1", call="c1",
        )
    )  # fmt: skip

    assert done.result.word == "CREATED"
    assert done.result.server_ms == T0
    assert done.changes == {
        **{f"task:T.{name}": (None, value) for name, value in CREATED_FIELDS.items()},
        "tasks[T]": (None, T0),
        "due[t:T]": (None, T0 + 1000),
        "call:c1:put:T": (None, "CREATED"),
    }
    (event,) = done.events
    assert (event.type, event.call, event.at_ms) == ("task_added", "c1", T0)
    assert event.task == done.result.task
    assert event.task is not None
    assert (event.task.status, event.task.next_run_at_ms) == ("active", T0 + 1000)


async def test_now_is_the_servers_time(world: World) -> None:
    await world.at(T0 + 77)
    await world.partition.put_task(
        "T", definition(), NOW, if_exists="error", read=None, incarnation="i", call=""
    )

    row = await read(world)
    assert (row.nominal_ms, row.due_ms, row.anchor_ms) == (T0 + 77,) * 3


async def test_a_pinned_task_is_listed_under_its_node(world: World) -> None:
    await put(world, pinned="N1")
    state = await world.dump()
    assert state["pinned:N1[T]"] is True

    row = await read(world)
    done = await world.act(
        world.partition.put_task(
            "T", definition(pinned="N2"), tick(row.nominal_ms), if_exists="replace", read=row,
            incarnation="i", call="",
        )
    )  # fmt: skip
    assert done.changes["pinned:N1[T]"] == (True, None)
    assert done.changes["pinned:N2[T]"] == (None, True)


@pytest.mark.parametrize(("if_exists", "word"), [("keep", "KEPT"), ("error", "EXISTS")])
async def test_an_existing_task_is_kept(world: World, if_exists: str, word: str) -> None:
    await put(world)
    row = await read(world)
    reply = await world.nothing(
        world.partition.put_task(
            "T", definition(name="Other"), tick(T0 + 5000), if_exists=if_exists, read=row,
            incarnation="i", call="c",
        )
    )  # fmt: skip
    assert reply.word == word
    assert reply.task == row.wire


async def test_the_same_definition_changes_nothing(world: World) -> None:
    await put(world)
    await world.at(T0 + 500)
    row = await read(world)
    same = definition(static=b'"id":"T","task_name":"Tidy","args":[],"kwargs":{}')
    reply = await world.nothing(
        world.partition.put_task(
            "T", same, tick(T0 + 9000), if_exists="replace", read=row, incarnation="i", call=""
        )
    )
    assert reply.word == "SAME"


async def replace(world: World, **changes: Any) -> TaskReply:
    row = await read(world)
    return await world.partition.put_task(
        "T", definition(**changes), tick(world.now + 5000), if_exists="replace", read=row,
        incarnation="i", call="c",
    )  # fmt: skip


async def test_a_new_definition_of_the_same_trigger_keeps_the_due_time(world: World) -> None:
    await put(world)
    done = await world.act(replace(world, handler="app:other"))

    assert done.changes == {
        "task:T.rev": ("1", "2"),
        "task:T.handler": ("app:tidy", "app:other"),
        "task:T.fingerprint": done.changes["task:T.fingerprint"],
        "call:c:put:T": (None, "REPLACED"),
    }
    assert done.kinds == ["task_updated"]


async def test_a_new_trigger_moves_the_due_time_and_keeps_the_incarnation(world: World) -> None:
    await put(world)
    done = await world.act(replace(world, trigger=b"other"))

    moved = (str(T0 + 1000), str(T0 + 5000))
    assert done.changes == {
        "task:T.rev": ("1", "2"),
        "task:T.trigger": ("every second", "other"),
        "task:T.fingerprint": done.changes["task:T.fingerprint"],
        "task:T.anchor": moved, "task:T.nominal": moved, "task:T.due": moved, "task:T.next": moved,
        "due[t:T]": (T0 + 1000, T0 + 5000),
        "call:c:put:T": (None, "REPLACED"),
    }  # fmt: skip


async def test_replacing_does_not_unpause(world: World) -> None:
    await put(world)
    await world.partition.pause_task("T", reason="r", actor="a", call="")
    done = await world.act(replace(world, trigger=b"other"))

    assert done.result.word == "REPLACED"
    assert done.result.task.status == "paused"
    assert not any(name.startswith("due[") for name in done.changes)
    assert done.changes["task:T.next"] == (str(T0 + 1000), str(T0 + 5000))


async def test_a_task_that_counts_from_its_runs_end_waits_for_the_live_one(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await node(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    done = await world.act(replace(world, trigger=b"after", mode="after"))

    assert done.changes["due[t:T]"] == (T0 + 2000, None)
    assert done.changes["task:T.due"] == (str(T0 + 2000), "")
    (job,) = await claim(world)
    await world.partition.remove_task("T", call="")
    assert job.task_id == "T"


async def test_it_is_stale_when_the_task_changed_since_it_was_read(world: World) -> None:
    await put(world)
    row = await read(world)
    other = definition(handler="app:other")
    for stale in (row._replace(revision="7@inc-T"), row._replace(due_ms=row.due_ms + 1), None):
        reply = await world.nothing(
            world.partition.put_task(
                "T", other, tick(T0 + 5000), if_exists="replace", read=stale, incarnation="i",
                call="",
            )
        )  # fmt: skip
        assert reply.word == "STALE"
        assert reply.task == row.wire


async def test_it_is_stale_when_the_task_was_removed_since_it_was_read(world: World) -> None:
    await put(world)
    row = await read(world)
    await world.partition.remove_task("T", call="")
    reply = await world.nothing(
        world.partition.put_task(
            "T", definition(), tick(T0 + 5000), if_exists="replace", read=row, incarnation="i",
            call="",
        )
    )  # fmt: skip
    assert (reply.word, reply.task) == ("STALE", None)


async def test_a_covered_nominal_time_is_never_armed_again(world: World) -> None:
    await put(world)
    holder = await lead(world)
    await world.at(T0 + 1000)
    await fire(world, holder)
    row = await read(world)

    reply = await world.nothing(
        world.partition.put_task(
            "T", definition(trigger=b"other"), tick(T0 + 1000), if_exists="replace", read=row,
            incarnation="i", call="",
        )
    )  # fmt: skip
    assert reply.word == "STALE"
    # The server's time is taken as the first millisecond that is not covered.
    reply = await world.partition.put_task(
        "T", definition(trigger=b"other"), NOW, if_exists="replace", read=row, incarnation="i",
        call="",
    )  # fmt: skip
    assert reply.word == "REPLACED"
    assert (await read(world)).due_ms == T0 + 1001


async def test_sent_again_it_says_what_it_said_first(world: World) -> None:
    def create() -> Awaitable[TaskReply]:
        return world.partition.put_task(
            "T", definition(), tick(T0 + 1000), if_exists="error", read=None, incarnation="i",
            call="c1",
        )  # fmt: skip

    await create()
    assert (await world.nothing(create())).word == "CREATED"
