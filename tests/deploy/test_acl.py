"""Each role does all of its work under its user of deploy/redis/users.acl, and no more."""

from __future__ import annotations

import asyncio
import logging
import queue
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from quiv_dist import Event, Quiv
from quiv_dist.core.wire import Envelope
from quiv_dist.events.feed import EventFeed
from quiv_dist.exceptions import ConfigurationError
from quiv_dist.store.namespace import Store
from quiv_dist.store.probe import ROLES, acl_rules
from tests.deploy.conftest import DEPLOY, Guarded
from tests.deploy.jobs import double, fail, wait_for_stop
from tests.servers import oldest_redis_binary
from tests.store.build import definition, submission, tick

FIRST_RULES = ["resetkeys", "resetchannels", "-@all"]
Start = Callable[..., Quiv]


def users() -> dict[str, list[str]]:
    lines = (DEPLOY / "redis/users.acl").read_text().splitlines()
    words = [line.split() for line in lines]
    assert all(word[0] == "user" for word in words)
    return {word[1]: word[2:] for word in words}


@pytest.mark.parametrize("role", ROLES)
def test_a_user_has_the_rules_that_its_role_needs_and_no_other(role: Any) -> None:
    state, secret, *rules = users()[f"quiv-{role}"]
    assert (state, secret) == ("on", f"#HASH-OF-QUIV-{role.upper()}")
    wanted = [*FIRST_RULES, *acl_rules(role, "quiv")]
    assert rules == wanted, f"give quiv-{role} in users.acl these rules: {' '.join(wanted)}"


def test_an_application_that_runs_all_roles_has_the_rules_of_all() -> None:
    _, _, *rules = users()["quiv-app"]
    scheduler, worker = acl_rules("scheduler", "quiv"), acl_rules("worker", "quiv")
    commands = {rule for rule in scheduler + worker if rule[0] == "+"}
    places = [rule for rule in scheduler if rule[0] != "+"]
    wanted = [*FIRST_RULES, *places, *sorted(commands)]
    assert rules == wanted, f"give quiv-app in users.acl these rules: {' '.join(wanted)}"


# Inside its rights -------------------------------------------------------------------------------


@pytest.fixture
def start(guarded: Guarded) -> Iterator[Start]:
    with ExitStack() as stack:

        def run(user: str, *roles: str, **options: Any) -> Quiv:
            quiv = Quiv(redis_url=guarded.url(user), roles=set(roles) or None, **options)
            stack.callback(quiv.shutdown, 5.0)
            quiv.start()
            return quiv

        yield run


def work_through(client: Quiv) -> None:
    """Everything that an application asks of a fleet."""
    handle = client.handler()(double)
    assert handle.submit(21).result(timeout=20) == 42
    once = client.add_task("once", double, args=(1,), run_once=True)
    client.wait_for_task(once, timeout=20)
    failing = client.add_task("failing", fail, run_once=True)
    job = client.wait_for_task(failing, timeout=20)
    assert "on purpose" in str(job.error_message)
    task = client.add_task("later", double, args=(1,), interval=3600, delay=3600)
    client.update_task(task, interval=1800)
    client.pause_task(task)
    client.resume_task(task, delay=3600)
    client.run_task_immediately(task)
    client.get_task(task)
    client.get_all_tasks()
    started: queue.Queue[str] = queue.Queue()
    client.add_listener(Event.JOB_STARTED, lambda _event, _task, job: started.put(job.id))
    waiting = client.add_task("waiting", wait_for_stop, run_once=True)
    while client.get_job(job_id := started.get(timeout=20)).task_id != waiting:
        pass
    assert client.cancel_job(job_id)
    client.wait_for_job(job_id, timeout=20)
    client.remove_task(task)
    assert client.get_all_jobs()
    client.stats()


def test_scheduler_worker_and_client_work_together(guarded: Guarded, start: Start) -> None:
    start("quiv-scheduler", "scheduler")
    start("quiv-worker", "worker", handlers=[double, fail, wait_for_stop])
    work_through(start("quiv-client", "listener"))
    assert guarded.denied() == set()


def test_an_application_runs_all_roles_itself(guarded: Guarded, start: Start) -> None:
    work_through(start("quiv-app", handlers=[double, fail, wait_for_stop]))
    assert guarded.denied() == set()


def test_a_worker_adds_tasks_too(guarded: Guarded, start: Start) -> None:
    """Applications add tasks as they are imported, and handlers as they run."""
    start("quiv-scheduler", "scheduler")
    worker = start("quiv-worker", "worker")
    worker.wait_for_task(worker.add_task("once", double, args=(1,), run_once=True), timeout=20)
    assert guarded.denied() == set()


async def test_a_listener_hears_events_and_reads(guarded: Guarded, start: Start) -> None:
    client = start("quiv-client", "listener")
    store = guarded.store("quiv-listener")
    await store.open(role="listener")
    heard: asyncio.Queue[Envelope] = asyncio.Queue()
    feed = EventFeed(store, logging.getLogger("Quiv"), heard.put_nowait)
    feed.start()
    await feed.cover([Event.TASK_ADDED])
    with guarded.client("quiv-listener") as foreign, foreign.pubsub() as subscriber:
        subscriber.psubscribe("quiv:{quiv/0}:event:*")
        assert subscriber.get_message(timeout=5)["type"] == "psubscribe"
        task = await client.asynchronous.add_task("later", double, args=(1,), interval=3600)
        message = subscriber.get_message(timeout=5)
        assert message["channel"] == "quiv:{quiv/0}:event:task_added"
    await store.reads().log_end()
    (row,) = await store.partition().read_tasks([task])
    assert row is not None
    async with asyncio.timeout(10):
        assert (await heard.get()).type == "task_added"
    await feed.stop()
    await store.close()
    assert guarded.denied() == set()


# Outside its rights ------------------------------------------------------------------------------


Call = Callable[[Store], Awaitable[object]]


def lead(store: Store) -> Awaitable[object]:
    return store.partition().elect("intruder", lease_ms=5000)


def dispatch(store: Store) -> Awaitable[object]:
    return store.partition().fire("intruder|1", [])


def add(store: Store) -> Awaitable[object]:
    return store.partition().put_task(
        "T", definition(), tick(0), if_exists="error", read=None, incarnation="I", call=""
    )


def submit(store: Store) -> Awaitable[object]:
    return store.partition().submit([submission()], call="")


def cancel(store: Store) -> Awaitable[object]:
    return store.partition().cancel("job-1", call="")


def join(store: Store) -> Awaitable[object]:
    return store.partition().register_node("N", b"{}", worker=True, queues=["q"], handlers=["h"])


def claim(store: Store) -> Awaitable[object]:
    return store.partition().claim("N", slots=1, streams=[("q", "normal")])


def wait_for_work(store: Store) -> Awaitable[object]:
    return store.blocking_reads().wait_for_entry("N", [("q", "normal")], 1)


REFUSED: list[tuple[str, Call]] = [
    ("quiv-worker", lead),
    ("quiv-worker", dispatch),
    ("quiv-client", wait_for_work),
    ("quiv-scheduler", wait_for_work),
    ("quiv-listener", lead),
    ("quiv-listener", add),
    ("quiv-listener", submit),
    ("quiv-listener", cancel),
    ("quiv-listener", join),
    ("quiv-listener", claim),
]


@pytest.mark.parametrize(("user", "call"), REFUSED)
async def test_what_is_not_of_a_role_is_refused_to_its_user(
    guarded: Guarded, user: str, call: Call
) -> None:
    async with opened(guarded, "quiv-app") as store:
        await join(store)
        await submit(store)
    before = contents(guarded)
    async with opened(guarded, user) as store:
        with pytest.raises(ConfigurationError, match="refuses this user") as caught:
            await call(store)
    assert guarded.passwords[user.upper().replace("-", "_") + "_PASSWORD"] not in str(caught.value)
    assert contents(guarded) == before


ROLE_USERS = ["quiv-scheduler", "quiv-worker", "quiv-client", "quiv-listener", "quiv-app"]
FORBIDDEN = [
    ("GET", "something"),
    ("HGET", "quiv:{quivx/0}:meta", "incarnation"),
    ("SUBSCRIBE", "quiv:{quivx/0}:wake"),
    ("PSUBSCRIBE", "*"),
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SHUTDOWN",),
    ("EVAL", "return redis.call('FLUSHALL')", 0),
    ("EVAL", "return redis.call('GET', 'something')", 0),
]


@pytest.mark.parametrize("user", ROLE_USERS)
def test_no_role_leaves_its_namespace_or_administers_the_server(
    guarded: Guarded, user: str
) -> None:
    with guarded.client(user) as client:
        for command in FORBIDDEN:
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|user executing"):
                client.execute_command(*command)


def test_a_worker_reads_nothing_of_the_leadership(guarded: Guarded) -> None:
    with guarded.client("quiv-worker") as worker:
        for command in (("HGET", "quiv:{quiv/0}:leader", "holder"), ("GET", "quiv:{quiv/0}:epoch")):
            with pytest.raises(NoPermissionError):
                worker.execute_command(*command)


def test_a_listener_publishes_nothing_and_hears_no_control_channel(guarded: Guarded) -> None:
    with guarded.client("quiv-listener") as listener:
        for command in (
            ("PUBLISH", "quiv:{quiv/0}:event:task_added", "{}"),
            ("SUBSCRIBE", "quiv:{quiv/0}:wake"),
            ("EVAL", "return redis.call('PUBLISH', 'quiv:{quiv/0}:event:x', '')", 0),
        ):
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|user executing"):
                listener.execute_command(*command)


def test_without_a_password_only_health_is_answered(guarded: Guarded) -> None:
    url = guarded.server.url
    with redis.Redis.from_url(url, protocol=2) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
    with redis.Redis.from_url(url.replace("//", "//quiv-health:-@"), protocol=2) as health:
        assert health.ping()
        with pytest.raises(NoPermissionError):
            health.info()


def test_from_redis_7_on_a_client_can_be_kept_from_forging_the_leader_lease(
    guarded: Guarded, start: Start
) -> None:
    """The rules that the README gives for it."""
    text = (DEPLOY / "redis/README.md").read_text()
    given = text[text.index("Replace its key rule by") :].split("`")[1].split()
    places = [*given, *(rule for rule in acl_rules("client", "quiv") if rule[0] != "~")]
    if guarded.server.binary == oldest_redis_binary():
        with pytest.raises(redis.ResponseError), guarded.user("careful", places):
            pass
        return
    with guarded.user("careful", places):
        with guarded.client("careful") as client:
            assert client.hget("quiv:{quiv/0}:leader", "holder") is None
            with pytest.raises(NoPermissionError):
                client.hset("quiv:{quiv/0}:leader", "holder", "me|1")
        start("careful", "listener")


@asynccontextmanager
async def opened(guarded: Guarded, user: str) -> AsyncIterator[Store]:
    store = guarded.store(user)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def contents(guarded: Guarded) -> dict[str, Any]:
    """Every key with its value."""
    with redis.Redis.from_url(guarded.url("quiv-admin"), protocol=2) as admin:
        read: dict[str, Callable[[Any], Any]] = {
            "hash": admin.hgetall,
            "list": lambda key: admin.lrange(key, 0, -1),
            "set": admin.smembers,
            "stream": admin.xrange,
            "string": admin.get,
            "zset": lambda key: admin.zrange(key, 0, -1, withscores=True),
        }
        return {key: read[admin.type(key).decode()](key) for key in admin.keys("*")}
