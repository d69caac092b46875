"""The commands of pyproject.toml, as an installation would have them."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from tests.deploy.conftest import ROOT


def console_scripts() -> dict[str, str]:
    """Name to `module:function`."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, str] = tomllib.load(file)["project"]["scripts"]
    return found


def install(directory: Path) -> Path:
    """Write them into a directory, as pip does."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, target in console_scripts().items():
        module, function = target.split(":")
        path = directory / name
        path.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
        path.chmod(0o755)
    return directory
