"""What the server keeps of each ended job and each task, all keys but the log together."""

from __future__ import annotations

from quiv_dist.core import ids
from tests.store.build import T0, claim, end, node, put, submission
from tests.store.state import World

COUNT = 400
# A task as a user's call makes one: every static member, a short message, an empty argument list.
MEMBERS = (
    b'"task_name":"Resize the pictures","args":[42],"kwargs":{},"args_omitted":false,'
    b'"interval_seconds":60.0,"fixed_interval":true,"run_once":false,"timeout_seconds":null,'
    b'"max_retries":0,"retry_backoff_seconds":30.0,"jitter_seconds":0.0,"cron":null,'
    b'"cron_timezone":null,"handler":"pictures.jobs:resize","queue":"default",'
    b'"priority":"normal","max_crashes":3,"owner":null,"pinned_to":null'
)


async def used_bytes(world: World) -> int:
    """The bytes of all keys but the log, and but what remembers calls for a minute."""
    total = 0
    for name in await world.names():
        if name != "log" and not name.startswith("call:"):
            usage = ("MEMORY", "USAGE", world.keys.key(name), "SAMPLES", 0)
            total += await world.command(*usage)
    return total


async def test_an_ended_job_takes_a_kibibyte_at_most(world: World) -> None:
    await node(world, "0000aaaa-1111-8222-b333-444444444444", ("pictures.jobs:resize",))
    items = []
    for number in range(COUNT):
        run = ids.run_id(0, world.namespace, "submit", "pictures.jobs:resize", "", str(number))
        snap = b'{"id":"%b",%b,"status":"running","next_run_at_ms":%d}' % (
            run.encode(), MEMBERS, T0,
        )  # fmt: skip
        items.append(
            submission(
                number, job_id=ids.job_id(run, 1), run_id=run, name="Resize the pictures",
                handler="pictures.jobs:resize", snap=snap,
            )
        )  # fmt: skip
    before = await used_bytes(world)
    await world.partition.submit(items, call="")
    jobs = await claim(world, "0000aaaa-1111-8222-b333-444444444444", slots=COUNT)
    words = await world.partition.finish(
        "0000aaaa-1111-8222-b333-444444444444", [end(job) for job in jobs]
    )
    assert words == ["OK"] * COUNT
    assert (await used_bytes(world) - before) / COUNT <= 1024


async def test_a_task_takes_two_kibibytes_at_most(world: World) -> None:
    before = await used_bytes(world)
    for number in range(COUNT):
        task_id = ids.declared_task_id(world.namespace, "Resize", "pictures.jobs:resize", number)
        static = b'"id":"%b",%b' % (task_id.encode(), MEMBERS)
        await put(
            world, task_id, static=static, name="Resize the pictures",
            handler="pictures.jobs:resize", fingerprint="0" * 32,
        )  # fmt: skip
    assert (await used_bytes(world) - before) / COUNT <= 2048
