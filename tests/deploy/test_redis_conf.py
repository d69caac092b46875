"""deploy/redis/redis.conf is what each supported server then runs with."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
import redis

from tests.deploy.conftest import DEPLOY, Guarded


def settings() -> dict[str, str]:
    lines = (DEPLOY / "redis/redis.conf").read_text().splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)


def test_the_server_takes_every_setting(guarded: Guarded) -> None:
    given = settings()
    assert given.pop("aclfile") == "/etc/quiv/users.acl"
    kind, hard, soft, seconds = given.pop("client-output-buffer-limit").split()
    with guarded.client() as admin:
        for name, value in given.items():
            assert admin.config_get(name) == {name: value}
        limits = admin.config_get("client-output-buffer-limit")["client-output-buffer-limit"]
    sizes = [int(size.removesuffix("mb")) * 1024 * 1024 for size in (hard, soft)]
    assert f"{kind} {sizes[0]} {sizes[1]} {seconds}" in limits


def wait_until_healthy(guarded: Guarded) -> None:
    """As a health check does: while a server loads its data it refuses this user's PING."""
    url = guarded.server.url.replace("//", "//quiv-health:-@")
    deadline_s = time.monotonic() + 20
    with redis.Redis.from_url(url, protocol=2) as health:
        while True:
            try:
                assert health.ping()
            except redis.BusyLoadingError:
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            else:
                return


def test_data_survive_a_restart(guarded: Guarded) -> None:
    with guarded.client() as admin:
        admin.set("kept", "1")
    guarded.server.restart()
    wait_until_healthy(guarded)
    with guarded.client() as admin:
        assert admin.get("kept") == "1"


def test_what_is_in_the_append_only_file_survives_a_kill(guarded: Guarded) -> None:
    """Within a second or two of the command: while an fsync is under way, writes wait."""
    deadline_s = time.monotonic() + 20
    with guarded.client() as admin:
        admin.set("kept", "1")
        while admin.info("persistence")["aof_buffer_length"]:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
    guarded.server.restart(kill=True)
    wait_until_healthy(guarded)
    with guarded.client() as admin:
        assert admin.get("kept") == "1"


def make_users(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [DEPLOY / "redis/make-users", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_passwords_are_readable_by_their_owner_only_and_differ(tmp_path: Path) -> None:
    assert make_users(tmp_path, "other").returncode == 0
    passwords = tmp_path / "passwords.env"
    assert passwords.stat().st_mode & 0o777 == 0o600
    values = [line.split("=")[1] for line in passwords.read_text().splitlines()]
    assert len(set(values)) == len(values) == 6
    assert all(len(value) == 48 for value in values)
    acl = (tmp_path / "users.acl").read_text()
    assert "quiv:{other/*}:*" in acl
    assert "{quiv/" not in acl
    assert "HASH-OF" not in acl
    assert not any(value in acl for value in values)


def test_passwords_in_use_are_not_written_over(tmp_path: Path) -> None:
    make_users(tmp_path)
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    again = make_users(tmp_path)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["a/b", "-x", "{a}", "a b", "*"])
def test_a_namespace_that_would_widen_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    refused = make_users(tmp_path, name)
    assert refused.returncode == 2
    assert list(tmp_path.iterdir()) == []
