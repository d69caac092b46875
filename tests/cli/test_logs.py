"""The lines that logs are made of."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from quiv_dist.cli.logs import JsonFormatter, TextFormatter, has_colours


def _record(message: str, *args: object, exc_info: bool = False) -> logging.LogRecord:
    info = sys.exc_info() if exc_info else None
    record = logging.LogRecord("shop", logging.WARNING, "shop.py", 1, message, args, info)
    record.created = 1_764_000_000.1239
    return record


def test_a_line_of_text() -> None:
    line = TextFormatter(colours=False).format(_record("%d left", 3))
    assert line == "2025-11-24T16:00:00.123Z WARNING shop: 3 left"


def test_colours_mark_the_level_alone() -> None:
    line = TextFormatter(colours=True).format(_record("low"))
    assert line == "2025-11-24T16:00:00.123Z \x1b[33mWARNING\x1b[0m shop: low"


def test_a_line_of_json_stays_one_line() -> None:
    line = ""
    try:
        int("of no use")
    except ValueError:
        line = JsonFormatter().format(_record("first\nsecond ü", exc_info=True))
    assert "\n" not in line
    fields = json.loads(line)
    assert fields.pop("exc").splitlines()[-1].startswith("ValueError: ")
    assert fields == {
        "ts": "2025-11-24T16:00:00.123Z",
        "level": "warning",
        "logger": "shop",
        "message": "first\nsecond ü",
    }


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_whose_user_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert has_colours(_Terminal())
    assert not has_colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colours(_Terminal())
