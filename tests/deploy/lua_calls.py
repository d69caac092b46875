"""What the Lua scripts ask of the server, read from their sources."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import quiv_dist.store

LUA = Path(quiv_dist.store.__file__).parent / "lua"
# These run without the prelude.
STANDALONE = {"open_namespace", "probe"}

_COMMENT = re.compile(r"--[^\n]*")
_CALL = re.compile(r"\b(?:redis\.p?call|call)\(\s*('([A-Z]+)')?\s*(?:,\s*'([A-Z]+)')?")
_PUBLISHED = re.compile(r"call\(\s*'PUBLISH',\s*K \.\. '([a-z]+:?)'")
_KEY = re.compile(r"\bK \.\. '([a-z]+:?)'")
_FUNCTION = re.compile(r"^local function (\w+)\(.*?^end$", re.MULTILINE | re.DOTALL)
_CALLED = re.compile(r"\b(\w+)\(")
_WITH_SUBCOMMAND = {"XGROUP"}


@dataclass
class Uses:
    """Commands as an ACL names them; keys and channels after the namespace's prefix."""

    commands: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)

    def add(self, other: Uses) -> None:
        self.commands |= other.commands
        self.keys |= other.keys
        self.channels |= other.channels


def text_of(name: str) -> str:
    """A script without its comments."""
    return _COMMENT.sub("", (LUA / f"{name}.lua").read_text("utf-8"))


def uses_of_text(text: str) -> Uses:
    """What a piece of Lua asks for itself, not counting the functions it calls."""
    found = Uses()
    for match in _CALL.finditer(text):
        if text[: match.start()].endswith("local "):  # `local call = redis.call`
            continue
        assert match[2], f"the command is no literal: {text[match.start() : match.end() + 40]!r}"
        sub = f"|{match[3]}" if match[2] in _WITH_SUBCOMMAND else ""
        found.commands.add((match[2] + sub).lower())
    found.channels.update(_PUBLISHED.findall(text))
    found.keys.update(_KEY.findall(_PUBLISHED.sub("", text)))
    if "KEYS[1]" in text:
        found.keys.add("meta")
    return found


@cache
def _prelude() -> tuple[str, dict[str, str]]:
    """The code that always runs, and the functions by name."""
    text = text_of("prelude")
    functions = {match[1]: match[0] for match in _FUNCTION.finditer(text)}
    return _FUNCTION.sub("", text), functions


def uses(script: str, without: frozenset[str] = frozenset()) -> Uses:
    """What a script may ask for, through every function of the prelude that it can reach.

    `without`: functions that the caller knows are not reached.
    """
    body = text_of(script)
    if script in STANDALONE:
        return uses_of_text(body)
    always, functions = _prelude()
    found = Uses()
    # What `scripts.py` joins calls flush() after the operation.
    waiting, reached = [always, body, "flush()"], set[str]()
    while waiting:
        text = waiting.pop()
        found.add(uses_of_text(text))
        for name in set(_CALLED.findall(text)) & functions.keys() - reached - without:
            reached.add(name)
            waiting.append(functions[name])
    return found
