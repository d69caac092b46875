"""The units are what systemd understands, and end as the commands do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from quiv_dist.cli import scheduler, worker
from quiv_dist.cli.errors import ExitCode
from tests.deploy.commands import install
from tests.deploy.conftest import DEPLOY

SYSTEMD = DEPLOY / "systemd"
UNITS = ("quiv-scheduler.service", "quiv-worker@.service")
COMMANDS: dict[str, click.Command] = {UNITS[0]: scheduler.main, UNITS[1]: worker.main}
MOST_EXPOSURE = 2.0


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze")
    assert tool, "systemd-analyze is not installed (Debian: systemd)"
    command = [tool, "--no-pager", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def settings(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / unit).read_text().splitlines():
        if match := re.match(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def installed(unit: str, directory: Path) -> Path:
    """The unit, with its commands where they can be found."""
    programs = install(directory / "bin")
    path = directory / unit
    text = (SYSTEMD / unit).read_text()
    assert "/opt/quiv/bin/" in text
    path.write_text(text.replace("/opt/quiv/bin", str(programs)))
    return path


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_to_complain_about(unit: str, tmp_path: Path) -> None:
    found = analyze("verify", "--man=no", installed(unit, tmp_path))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_a_misspelt_setting_would_be_found(tmp_path: Path) -> None:
    path = installed(UNITS[0], tmp_path)
    path.write_text(path.read_text().replace("Restart=", "Restrat="))
    assert "Restrat" in analyze("verify", "--man=no", path).stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_process_that_is_taken_over_can_do_little(unit: str, tmp_path: Path) -> None:
    path = installed(unit, tmp_path)
    found = analyze("security", "--offline=true", path)
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", found.stdout)
    assert match, found.stderr
    assert float(match[1]) <= MOST_EXPOSURE


@pytest.mark.parametrize("unit", UNITS)
def test_a_stop_waits_longer_than_the_drain(unit: str) -> None:
    found = settings(unit)
    drain = next(p for p in COMMANDS[unit].params if p.name == "shutdown_timeout_s").default
    example = dict(
        line.split("=", 1)
        for line in (SYSTEMD / "quiv.env").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert float(example["QUIV_SHUTDOWN_TIMEOUT"]) == drain
    assert float(found["TimeoutStopSec"][0]) >= drain + 5
    assert found["KillSignal"] == ["SIGTERM"]
    # To the process itself: its children are its own to end.
    assert found["KillMode"] == ["mixed"]


@pytest.mark.parametrize("unit", UNITS)
def test_what_trying_again_does_not_cure_is_not_tried_again(unit: str) -> None:
    found = settings(unit)
    assert found["Restart"] == ["on-failure"]
    hopeless = {ExitCode.USAGE, ExitCode.APP, ExitCode.SCHEMA}
    assert {int(code) for code in found["RestartPreventExitStatus"][0].split()} == hopeless


@pytest.mark.parametrize("unit", UNITS)
def test_every_variable_of_the_example_is_one_of_a_flag(unit: str) -> None:
    known = {str(p.envvar) for p in COMMANDS[unit].params if p.envvar}
    named = set(re.findall(r"QUIV_[A-Z_]+", (SYSTEMD / "quiv.env").read_text()))
    assert named <= known


def test_a_worker_has_settings_of_its_instance() -> None:
    files = settings(UNITS[1])["EnvironmentFile"]
    # A minus: it may be missing. The last one wins.
    assert files[-1] == "-/etc/quiv/quiv-worker@%i.env"
    assert all(re.fullmatch(r"-?/etc/quiv/[\w@%.-]+\.env", name) for name in files)
