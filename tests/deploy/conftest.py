"""Servers with the users of deploy/redis, on every server that is supported."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from quiv_dist.store.namespace import Store
from tests.servers import RedisServer, oldest_redis_binary, system_redis_binary, valkey_binary

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def binary_of(name: str) -> Path:
    if name == "valkey":
        return valkey_binary()
    if name == "redis-6.2":
        return oldest_redis_binary()
    found = system_redis_binary()
    assert found, "redis-server is not installed (Debian: redis-server)"
    return found


SERVERS = ("valkey", "redis-6.2", "redis-system")


@dataclass
class Guarded:
    """A server that knows the users of `users.acl`, each with a password of its own."""

    server: RedisServer
    passwords: dict[str, str]

    def url(self, user: str) -> str:
        password = self.passwords[user.upper().replace("-", "_") + "_PASSWORD"]
        return self.server.url.replace("//", f"//{user}:{password}@")

    def store(self, user: str, namespace: str = "quiv") -> Store:
        return Store(self.url(user), namespace)

    def client(self, user: str = "quiv-admin") -> redis.Redis:
        return redis.Redis.from_url(self.url(user), protocol=2, decode_responses=True)

    @contextmanager
    def user(self, name: str, rules: list[str]) -> Iterator[None]:
        """A user with the password `secret` and no rules but these, for a while."""
        with self.client() as admin:
            admin.execute_command("ACL", "SETUSER", name, "reset", "resetchannels", *rules)
            admin.execute_command("ACL", "SETUSER", name, "on", ">secret")
            self.passwords[name.upper() + "_PASSWORD"] = "secret"
            try:
                yield
            finally:
                admin.acl_deluser(name)

    def denied(self) -> set[str]:
        """What was refused since the start of the test, but for a client's introduction."""
        with self.client() as admin:
            refused = {str(entry["object"]) for entry in admin.acl_log(count=1000)}
        return refused - {"client", "client|setinfo"}


@pytest.fixture(scope="session", params=SERVERS)
def _guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    subprocess.run([DEPLOY / "redis/make-users", directory / "quiv"], check=True)
    lines = (directory / "quiv/passwords.env").read_text().splitlines()
    passwords = dict(line.split("=", 1) for line in lines)
    text = (DEPLOY / "redis/redis.conf").read_text()
    configuration = directory / "redis.conf"
    configuration.write_text(text.replace("/etc/quiv/", f"{directory}/quiv/"))
    with tempfile.TemporaryDirectory(prefix="quiv-server-") as data:
        options = {"include": str(configuration)}
        binary = binary_of(request.param)
        with RedisServer(Path(data), options=options, binary=binary) as server:
            yield Guarded(server, passwords)


@pytest.fixture
def guarded(_guarded: Guarded) -> Iterator[Guarded]:
    """Each of the supported servers with its users, empty before and after the test."""
    with _guarded.client() as admin:
        admin.flushall()
        admin.execute_command("ACL", "LOG", "RESET")
        yield _guarded
        admin.flushall()
