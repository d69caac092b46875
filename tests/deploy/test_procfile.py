"""deploy/Procfile brings a fleet up, which works, and ends clean on a SIGTERM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from quiv_dist.store.keys import Keys
from tests.deploy.commands import install
from tests.deploy.conftest import DEPLOY, ROOT

DEADLINE_S = 20.0
COPIES = 2
SUBMIT = """
from workers.quickstart import quiv, resize
print(resize.submit("logo.png", width=64).result(timeout=15))
quiv.shutdown(0)
"""


def nodes(url: str, namespace: str, role: str) -> int:
    keys = Keys(namespace)
    with redis.Redis.from_url(url, protocol=2, decode_responses=True) as client:
        ids = client.zrange(keys.key("nodes"), 0, -1)
        records = [client.hget(keys.key(f"node:{node}"), "json") or "" for node in ids]
    return sum(f'"{role}"' in re.findall(r'"roles":\[(.*?)\]', text)[0] for text in records if text)


def test_the_fleet_comes_up_runs_a_job_and_ends_clean(
    redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(install(tmp_path / "bin")), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("QUIV_APP", "workers.quickstart")
    monkeypatch.setenv("QUIV_REDIS_URL", redis_url)
    monkeypatch.setenv("QUIV_NAMESPACE", namespace)
    runner = [sys.executable, "-m", "honcho", "start", "-f", str(DEPLOY / "Procfile")]
    log = tmp_path / "log"
    with log.open("wb") as output:
        fleet = subprocess.Popen(
            [*runner, "-d", str(ROOT), "-c", f"scheduler={COPIES},worker={COPIES}"],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        deadline_s = time.monotonic() + DEADLINE_S
        for role in ("scheduler", "worker"):
            while nodes(redis_url, namespace, role) < COPIES:
                assert fleet.poll() is None, log.read_text()
                assert time.monotonic() < deadline_s, log.read_text()
                time.sleep(0.05)
        found = subprocess.run(
            [sys.executable, "-c", SUBMIT], check=False, capture_output=True, text=True, timeout=30
        )
        assert "logo.png is 64 pixels wide" in found.stdout, found.stderr + log.read_text()
        fleet.send_signal(signal.SIGTERM)
        code = fleet.wait(DEADLINE_S)
    finally:
        if fleet.poll() is None:
            os.killpg(fleet.pid, signal.SIGKILL)
            fleet.wait()
    text = log.read_text()
    # honcho passes on which signal ended it.
    assert code == 128 + signal.SIGTERM, text
    # What honcho says when it has to kill.
    assert "SIGKILL" not in text, text
    assert "Traceback" not in text, text
    for name in ("scheduler", "worker"):
        for number in range(1, COPIES + 1):
            assert re.search(rf"{name}\.{number}.*stopped \(rc=0\)", text), text
    assert nodes(redis_url, namespace, "scheduler") == nodes(redis_url, namespace, "worker") == 0
