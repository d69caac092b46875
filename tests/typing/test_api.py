"""The typed API, as mypy in its strictest reading sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_mypy_accepts_and_refuses_what_it_should() -> None:
    root = Path(__file__).parents[2]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "tests/typing/api.py"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
