"""The Lua files: headed, listed, and clean as they run, which is joined with the prelude."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from quiv_dist.models import Event
from quiv_dist.store import scripts

FOLDER = Path(scripts.__file__).parent / "lua"
FILES = sorted(FOLDER.glob("*.lua"))
OPERATIONS = [path for path in FILES if path.stem != "prelude"]


def header(path: Path) -> str:
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--"))
    return "\n".join(lines)


@pytest.mark.parametrize("path", OPERATIONS, ids=lambda path: path.stem)
def test_every_file_is_headed(path: Path) -> None:
    parts = re.findall(r"^ (KEYS|ARGV|Reply|Events)\b", header(path), re.MULTILINE)
    assert parts == ["KEYS", "ARGV", "Reply", "Events"]
    assert header(path).split("KEYS")[0].strip(), "what it does comes first"


@pytest.mark.parametrize("path", OPERATIONS, ids=lambda path: path.stem)
def test_a_header_names_the_events_of_its_body(path: Path) -> None:
    body = path.read_text("utf-8")
    named = header(path).split("Events")[1]
    emitted = set(re.findall(r"emit\w*\(\s*'(\w+)'", body))
    assert emitted <= set(re.findall(r"\w+_\w+", named))
    assert set(re.findall(r"\b(?:job|task|tick|leader|node)_[a-z]+", named)) <= {
        event.value for event in Event
    }


def test_every_script_is_called_and_every_call_has_a_script() -> None:
    source = "\n".join(path.read_text("utf-8") for path in FOLDER.parent.glob("*.py"))
    assert [name for name in scripts.names() if f'"{name}"' not in source] == []
    assert set(re.findall(r"self\._run\(\s*\"(\w+)\"", source)) <= set(scripts.names())


def test_the_files_are_the_scripts() -> None:
    assert scripts.names() == [path.stem for path in OPERATIONS]


@pytest.mark.parametrize("name", scripts.names())
def test_a_script_is_clean_as_it_runs(name: str, tmp_path: Path) -> None:
    """Joined with the prelude, so that a name it uses is one that is there."""
    command = shutil.which("luacheck")
    assert command, "luacheck is needed (Debian: lua-check)"
    joined = tmp_path / f"{name}.lua"
    joined.write_text(scripts.source(name), "utf-8")
    # 211, 221, 231: what of the prelude this operation has no use for.
    result = subprocess.run(
        [command, "--no-config", "--std", "lua51", "--read-globals", "KEYS", "ARGV", "redis",
         "cjson", "cmsgpack", "--max-line-length", "100", "--ignore", "211", "221", "231", "311",
         "--codes", "--no-color", str(joined)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
