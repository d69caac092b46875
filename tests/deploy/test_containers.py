"""Dockerfile and compose.yaml, without a container engine: by their linters, and word by word."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from quiv_dist.cli import worker
from tests.deploy.commands import console_scripts
from tests.deploy.conftest import DEPLOY, ROOT

BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = YAML(typ="safe").load(DEPLOY / "compose.yaml")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def instructions() -> list[tuple[str, str]]:
    """Instructions and their arguments, continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    words = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, arguments) for name, arguments in words]


def arguments(name: str) -> list[str]:
    return [found for instruction, found in instructions() if instruction == name]


# Dockerfile --------------------------------------------------------------------------------------


def test_the_linter_finds_nothing() -> None:
    found = run(BIN / "hadolint", "--no-color", DEPLOY / "Dockerfile")
    assert (found.returncode, found.stdout) == (0, "")


def sources() -> list[str]:
    copied = [line.split() for line in arguments("COPY") if not line.startswith("--from")]
    return [source.rstrip("/") for words in copied for source in words[:-1]]


def test_what_it_copies_is_there_and_sent_to_the_builder() -> None:
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in sent, "an allowlist: secrets never reach the builder"
    assert sources()
    for source in sources():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in {line.rstrip("/") for line in sent}, source


def test_the_build_has_what_pyproject_names() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for key in ("readme", "license-files", "packages"):
        match = re.search(rf'^{key} = \[?"(.+?)"', text, re.MULTILINE)
        assert match
        assert match[1] in sources()


def test_it_runs_without_root_and_hands_signals_to_the_command() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", arguments("USER")[-1])
    (command,) = arguments("CMD")
    # A JSON array: no shell between the signal and the process.
    assert json.loads(command)[0] in console_scripts()
    assert not arguments("ENTRYPOINT")
    assert arguments("STOPSIGNAL") == ["SIGTERM"]


def test_its_last_stage_has_no_tools_to_build_with() -> None:
    last = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    assert last.startswith("python:3.11-slim\n")
    assert not re.search(r"pip install|apt-get|\b(gcc|make|cargo)\b", last)


def test_the_application_in_it_is_the_one_it_names() -> None:
    app = next(v for v in arguments("ENV") if v.startswith("QUIV_APP")).split("=")[1]
    assert f"{app.replace('.', '/')}.py" in sources()
    assert "workers/__init__.py" in sources()


# compose.yaml ------------------------------------------------------------------------------------


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    return run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


def test_it_follows_the_compose_specification() -> None:
    found = check_schema(DEPLOY / "compose.yaml")
    assert found.returncode == 0, found.stdout + found.stderr


def test_a_mistake_in_it_would_be_found(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("healthcheck:", "healthchek:"))
    assert "healthchek" in check_schema(wrong).stdout


def test_what_it_runs_and_mounts_is_there() -> None:
    for name in ("scheduler", "worker"):
        service = COMPOSE["services"][name]
        assert service["command"] == [f"quiv-{name}"]
        assert service["command"][0] in console_scripts()
        assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert service["deploy"]["replicas"] == 2
    mounts = [mount.split(":")[0] for mount in COMPOSE["services"]["valkey"]["volumes"]]
    made = {"./secrets/users.acl"}
    for mount in mounts:
        assert mount in COMPOSE["volumes"] or mount in made or (DEPLOY / mount).is_file(), mount


def test_each_role_has_its_own_user_and_the_password_that_make_users_writes() -> None:
    acl = (DEPLOY / "redis/users.acl").read_text()
    for name in ("scheduler", "worker"):
        environment = COMPOSE["services"][name]["environment"]
        match = re.match(r"redis://([\w-]+):\$\{(\w+):\?", environment["QUIV_REDIS_URL"])
        assert match
        assert match[1] == f"quiv-{name}"
        assert f"user {match[1]} on #HASH-OF-{match[1].upper()} " in acl
        assert match[2] == match[1].upper().replace("-", "_") + "_PASSWORD"


def test_every_variable_is_one_of_a_flag() -> None:
    known = {str(p.envvar) for p in worker.main.params}
    for name in ("scheduler", "worker"):
        assert set(COMPOSE["services"][name]["environment"]) <= known


def test_a_stop_waits_longer_than_the_drain() -> None:
    drain: Any = next(p for p in worker.main.params if p.name == "shutdown_timeout_s").default
    for name in ("scheduler", "worker"):
        assert float(COMPOSE["services"][name]["stop_grace_period"].removesuffix("s")) >= drain + 5


def test_the_server_keeps_its_data_and_its_paths_agree() -> None:
    valkey = COMPOSE["services"]["valkey"]
    targets = {mount.split(":")[1] for mount in valkey["volumes"]}
    configuration = (DEPLOY / "redis/redis.conf").read_text()
    assert valkey["command"][1] in targets
    assert re.findall(r"^aclfile (.+)$", configuration, re.MULTILINE)[0] in targets
    assert valkey["command"][-1] in targets
    assert re.search(r"^appendonly yes$", configuration, re.MULTILINE)


def test_the_health_check_is_allowed_its_command() -> None:
    check = COMPOSE["services"]["valkey"]["healthcheck"]["test"]
    assert check[0] == "CMD-SHELL"
    user = re.search(r"redis://([\w-]+):", check[1])
    assert user
    line = next(
        line for line in (DEPLOY / "redis/users.acl").read_text().splitlines()
        if line.startswith(f"user {user[1]} ")
    )  # fmt: skip
    assert line.split()[2:] == ["on", "nopass", "resetkeys", "resetchannels", "-@all", "+ping"]
