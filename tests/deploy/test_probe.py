"""The start-up probe tries all that the code uses, names all that is refused, leaves nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

import quiv_dist
from quiv_dist import Quiv
from quiv_dist.exceptions import ConfigurationError
from quiv_dist.store import scripts
from quiv_dist.store.keys import CATALOGUE, Keys
from quiv_dist.store.namespace import Store
from quiv_dist.store.probe import COMMANDS, ROLES, Role, acl_rules, probe, sample
from tests.conftest import OwnServer
from tests.deploy.conftest import ROOT, SERVERS, Guarded, binary_of
from tests.deploy.lua_calls import LUA, Uses, uses

EVERYBODY = {"open_namespace", "read_jobs", "read_tasks"}
CLIENT = EVERYBODY | {
    "cancel", "pause_task", "put_task", "register_node", "remove_task", "renew", "resume_task",
    "retire_node", "run_now", "submit", "update_task",
}  # fmt: skip
LEADER = {
    "audit", "elect", "fire", "peek_due", "purge", "reclaim", "recover_pending", "renew_leader",
    "resign", "settle_parked", "survey_nodes",
}  # fmt: skip
SCRIPTS: dict[Role, set[str]] = {
    "scheduler": CLIENT | LEADER,
    "worker": CLIENT | {"claim", "finish", "progress", "surrender"},
    "client": CLIENT,
    "listener": EVERYBODY,
}
# A node takes itself out without asking who leads; a leader takes out others.
ASK_WHO_LEADS = frozenset({"leads"})
LEADERSHIP = {"leader", "epoch"}

# Not in any script: commands that the store sends itself, and those of its subscriptions.
SENT = re.compile(r'(?:execute|_execute\w*)\(\s*(?:self\.\w+,\s*)?"([A-Z]+)"(?:,\s*"([A-Z]+)")?')
SUBSCRIPTIONS = {"subscribe", "unsubscribe", "ping"}
WORKERS_OWN = {"xreadgroup", "xgroup|create"}
TESTS_OWN = {"hset"}  # moves the clock of a virtual namespace


def of_scripts(role: Role) -> Uses:
    found = Uses()
    for name in SCRIPTS[role]:
        without = frozenset() if role == "scheduler" else ASK_WHO_LEADS
        if role == "listener":
            # Its scripts read: they gather nothing to write at the end.
            without |= {"flush"}
        found.add(uses(name, without))
    if role == "listener":
        # The namespace it watches is there.
        found.commands.discard("hset")
    return found


def sent() -> set[str]:
    """Commands that Python code sends by name."""
    found = set()
    for path in Path(quiv_dist.__file__).parent.rglob("*.py"):
        for command, sub in SENT.findall(path.read_text("utf-8")):
            container = command in {"PUBSUB", "XGROUP"}
            found.add(f"{command}|{sub}".lower() if container else command.lower())
    return found


# What it tries -----------------------------------------------------------------------------------


def test_every_script_has_a_role() -> None:
    assert set().union(*SCRIPTS.values()) == set(scripts.names()) - {"probe"}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_tries_what_its_code_uses_and_nothing_else(role: Role) -> None:
    """Else: change COMMANDS of quiv_dist/store/probe.py, and deploy/redis/users.acl by it."""
    used = of_scripts(role).commands | sent() - TESTS_OWN | SUBSCRIPTIONS | {"eval", "evalsha"}
    if role != "worker":
        used -= WORKERS_OWN
    if role == "listener":
        used |= {"psubscribe", "punsubscribe"}
    assert used == COMMANDS[role]


def test_the_commands_of_the_code_are_found() -> None:
    """The scans of this module see what is known to be there."""
    assert {"xreadgroup", "xgroup|create", "sismember", "time"} <= uses("claim").commands
    assert "zremrangebyrank" in uses("finish").commands
    assert uses("read_jobs", frozenset({"flush"})).commands <= COMMANDS["listener"]
    assert uses("elect").keys >= LEADERSHIP
    assert {"info", "pubsub|numsub", "xreadgroup", "zrevrangebyscore"} <= sent()


def test_the_keys_of_all_scripts_are_catalogued() -> None:
    for name in scripts.names():
        for key in uses(name).keys - {"q:"} if name != "probe" else set():
            full = key + "x" if key.endswith(":") else key
            assert any(re.fullmatch(entry.pattern, full) for entry in CATALOGUE), (name, key)


@pytest.mark.parametrize("role", ["worker", "client"])
def test_only_the_leaders_scripts_touch_the_leadership(role: Role) -> None:
    assert not of_scripts(role).keys & LEADERSHIP


def test_every_catalogued_key_can_be_tried() -> None:
    names = [sample(entry.pattern) for entry in CATALOGUE]
    assert len(set(names)) == len(names)
    for entry, name in zip(CATALOGUE, names, strict=True):
        assert re.fullmatch(entry.pattern, name)


def test_a_client_needs_nothing_that_a_worker_does_not() -> None:
    assert COMMANDS["client"] < COMMANDS["worker"]
    assert COMMANDS["client"] < COMMANDS["scheduler"]


def test_the_script_knows_the_commands_of_all_roles() -> None:
    known = set(re.findall(r"^  \['([a-z|]+)'\] =", (LUA / "probe.lua").read_text(), re.MULTILINE))
    others = SUBSCRIPTIONS | {"info", "eval", "evalsha", "psubscribe", "punsubscribe"}
    assert known | others | {"pubsub|numsub"} == set().union(*COMMANDS.values())


# What it finds -----------------------------------------------------------------------------------


async def refused(store: Store, role: Role) -> str:
    with pytest.raises(ConfigurationError) as caught:
        await store.open(role=role)
    await store.close()
    assert "secret" not in str(caught.value)
    return str(caught.value)


# A client's are all among a worker's.
@pytest.mark.parametrize("role", ["scheduler", "worker", "listener"])
async def test_every_single_command_is_missed_by_name(guarded: Guarded, role: Role) -> None:
    rules = acl_rules(role, "quiv")
    for command in sorted(COMMANDS[role]):
        with guarded.user("probed", [rule for rule in rules if rule != f"+{command}"]):
            text = await refused(guarded.store("probed"), role)
        assert f"cannot serve the {role} role" in text
        assert f"refuses this user commands {command}" in text
        assert f"+{command}" in text.split("rules of the user:")[1].split()


@pytest.mark.parametrize("role", ROLES)
async def test_every_kind_of_key_is_missed_by_name(guarded: Guarded, role: Role) -> None:
    others = [rule for rule in acl_rules(role, "quiv") if rule[0] != "~"]
    names = [sample(entry.pattern) for entry in CATALOGUE]
    if role != "scheduler":
        names = [name for name in names if name not in LEADERSHIP]
    for missing in names:
        # `probe:*` stands for the string that the probe makes.
        keys = [f"~quiv:{{quiv/0}}:{name}" for name in names if not name.startswith("probe")]
        keys.append("~quiv:{quiv/0}:probe:*")
        wanted = missing if missing != "probe:probe" else "probe:*"
        keys.remove(f"~quiv:{{quiv/0}}:{wanted}")
        with guarded.user("probed", [*others, *keys]):
            text = await refused(guarded.store("probed"), role)
        assert f"quiv:{{quiv/0}}:{wanted}" in text
        assert "~quiv:{quiv/*}:" in text.split("rules of the user:")[1]


@pytest.mark.parametrize("role", ROLES)
async def test_every_channel_is_missed_by_name(guarded: Guarded, role: Role) -> None:
    others = [rule for rule in acl_rules(role, "quiv") if rule[0] != "&"]
    # The pattern of all events needs a rule of exactly that.
    names = {"event:probe", "event:*", "node:*", "wake", "leadership"}
    tried = {"event:*"} if role == "listener" else names - {"event:probe"}
    for missing in sorted(tried):
        allowed = {
            name
            for name in names
            if name != missing and not (missing == "event:*" and name == "event:probe")
        }
        with guarded.user("probed", [*others, *(f"&quiv:{{quiv/0}}:{name}" for name in allowed)]):
            text = await refused(guarded.store("probed"), role)
        assert f"channels quiv:{{quiv/0}}:{missing}" in text
        assert "&quiv:{quiv/*}:" in text.split("rules of the user:")[1]


async def test_the_rules_that_it_names_are_enough(guarded: Guarded) -> None:
    """Whatever is missing, following the message once cures it."""
    for role in ROLES:
        for first in ([], ["+ping", "+eval", "+evalsha", "~quiv:{quiv/0}:meta"], ["~other:*"]):
            with guarded.user("probed", first), guarded.client() as admin:
                text = await refused(guarded.store("probed"), role)
                rules = text.split("rules of the user:")[1].split()
                admin.execute_command("ACL", "SETUSER", "probed", *rules)
                await probe(store := guarded.store("probed"), role)
                await store.close()


@pytest.mark.parametrize(("user", "role"), [(f"quiv-{role}", role) for role in ROLES])
async def test_it_leaves_nothing_behind(guarded: Guarded, user: str, role: Role) -> None:
    await probe(store := guarded.store(user), role)
    await store.close()
    with guarded.client() as admin:
        assert admin.keys("*") == []


async def test_it_leaves_nothing_behind_where_it_may_set_or_delete_only(guarded: Guarded) -> None:
    rules = acl_rules("client", "quiv")
    for missing in ({"+set"}, {"+set", "+del"}):
        with guarded.user("probed", [rule for rule in rules if rule not in missing]):
            await refused(guarded.store("probed"), "client")
        with guarded.client() as admin:
            assert admin.keys("*") == []
    with (
        guarded.user("probed", [rule for rule in rules if rule != "+del"]),
        guarded.client() as admin,
    ):
        await refused(guarded.store("probed"), "client")
        (left,) = admin.keys("*")
        assert left.startswith("quiv:{quiv/0}:probe:")
        assert 0 < admin.pttl(left) <= 60_000


async def test_it_disturbs_nothing_that_is_there(redis_url: str, namespace: str) -> None:
    """Of the keys it tries under their own names, values of each type stay as they are."""
    keys = Keys(namespace)
    store = Store(redis_url, namespace)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        for entry in CATALOGUE:
            if entry.pattern != "probe:.+":
                put(client, keys.key(sample(entry.pattern)), entry.type)
        before = {key: client.dump(key) for key in client.keys(f"{keys.prefix}*")}
        for role in ROLES:
            await probe(store, role)
        assert {key: client.dump(key) for key in client.keys(f"{keys.prefix}*")} == before
        assert len(before) == len(CATALOGUE) - 1
    await store.close()


def put(client: redis.Redis, key: str, kind: str) -> None:
    commands: dict[str, tuple[Any, ...]] = {
        "hash": ("HSET", key, "f", "v"),
        "list": ("RPUSH", key, "v"),
        "set": ("SADD", key, "v"),
        "stream": ("XADD", key, "1-1", "f", "v"),
        "string": ("SET", key, "v"),
        "zset": ("ZADD", key, 1, "v"),
    }
    client.execute_command(*commands[kind])


@pytest.mark.parametrize("server", SERVERS)
async def test_a_command_that_is_renamed_or_disabled_is_named(
    own_server: OwnServer, server: str
) -> None:
    gone = ("XADD", "EVALSHA", "SUBSCRIBE", "INFO")
    for command in gone:
        options = {"rename-command": (command, "")}
        running = own_server(binary=binary_of(server), options=options)
        text = await refused(Store(running.url), "client")
        assert f"It lacks {command.lower()} (renamed, disabled" in text
        assert "rules of the user" not in text
        running.stop()


# Where it is asked -------------------------------------------------------------------------------


def test_an_instance_refuses_to_start_before_it_has_stored_anything(guarded: Guarded) -> None:
    for user, roles, named in (
        ("quiv-client", {"worker"}, "+xreadgroup"),
        ("quiv-worker", {"scheduler"}, "~quiv:{quiv/*}:*"),
        ("quiv-listener", {"listener"}, "+set"),
    ):
        quiv = Quiv(redis_url=guarded.url(user), roles=roles)
        with pytest.raises(ConfigurationError, match="cannot serve the") as caught:
            quiv.start()
        assert named in str(caught.value)
        quiv.shutdown(0)
    with guarded.client() as admin:
        assert set(admin.keys("*")) <= {"quiv:{quiv/0}:meta"}


def test_a_command_ends_with_2(guarded: Guarded) -> None:
    """Which the systemd units take for a reason not to try again."""
    found = subprocess.run(
        [sys.executable, "-m", "quiv_dist.cli.scheduler", "-u", guarded.url("quiv-worker")],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert found.returncode == 2, found.stderr
    assert "cannot serve the scheduler role" in found.stderr
    assert guarded.passwords["QUIV_WORKER_PASSWORD"] not in found.stderr
